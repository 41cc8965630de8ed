// distil: a student learns from the labels and from its teachers' probabilities.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <memory>

#include "impart/core/clock.hpp"
#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"
#include "impart/share/capabilities.hpp"
#include "impart/share/distil/distil_loss.hpp"
#include "impart/stages/check_context.hpp"
#include "impart/stages/run_context.hpp"
#include "impart/train/read_training.hpp"
#include "stages/kinds.hpp"

namespace impart::stages {

namespace {

class DistilStage final : public Stage {
 public:
  DistilStage(Settings& settings, const Deck& deck) {
    read_inputs(settings, "teachers", teachers_, 1,
                "stages, or paths that end in .h5, whose probabilities are averaged; they see samples "
                "without augment");
    settings.require("model", model_, "a [model.*]: the student");
    read_loss(settings);
    training_ = train::read_training(settings, "cross_entropy", deck.run.seed, {},
                                     std::array{share::distillation_capabilities()});
    const auto* plain = training_.objective->as_cross_entropy();
    if (loss_->table_temperature() && (plain == nullptr || !plain->class_weights.empty())) {
      settings.problem("objective",
                       "a distillation mixes cross_entropy without class_weights with its teachers; no other "
                       "objective is possible");
    }
  }

  [[nodiscard]] StageUses uses() const override {
    StageUses uses{{}, {model_}, {training_.dataset}};
    for (const auto& teacher : teachers_) uses.artifacts.push_back({teacher, "teacher"});
    return uses;
  }

  [[nodiscard]] std::string describe() const override {
    return fmt::format("distil {} from {}", model_, fmt::join(teachers_, ", "));
  }

  [[nodiscard]] std::string model() const override { return model_; }
  [[nodiscard]] comm::MeshShape mesh() const override { return training_.options.mesh; }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    const auto* student = context.model(path() + ".model", model_);
    for (const auto& teacher : teachers_) {
      const auto* outline = context.artifact(path() + ".teachers", teacher);
      if (outline == nullptr) continue;
      if (outline->members.empty()) {
        context.problem(path() + ".teachers", fmt::format("'{}' leaves no model", teacher));
        continue;
      }
      const auto& spec = outline->spec();
      if (student != nullptr && (spec.input != student->input || spec.classes != student->classes)) {
        context.problem(path() + ".teachers",
                        fmt::format("teacher '{}' maps {} to {} classes, the student {} to {}", teacher,
                                    spec.input.str(), spec.classes, student->input.str(), student->classes));
      }
    }
    if (student == nullptr) return std::nullopt;
    check_loss(context, *student);
    context.training(path(), training_, *student);
    return ModelOutline{{*student}};
  }

  [[nodiscard]] double cost(RunContext& context) const override {
    return training_cost(context, training_, *context.deck().find_model(model_));
  }

  [[nodiscard]] int least_ranks(RunContext& context) const override {
    return least_training_ranks(training_, *context.deck().find_model(model_));
  }

  StageResult run(RunContext& context) const override {
    const auto data = context.training_data(training_);
    const auto start = Clock::now();
    Tensor probabilities;
    if (const auto temperature = loss_->table_temperature())
      probabilities = teacher_probabilities(context, data, *temperature);
    const double taught = seconds_since(start);

    const auto& spec = *context.deck().find_model(model_);
    std::vector<share::Teacher> teachers;
    if (!loss_->table_temperature()) {
      for (const auto& teacher : teachers_) {
        const auto& model = context.model(teacher);
        teachers.push_back({&model.members.front().spec, &model.state});
      }
    }
    std::unique_ptr<nn::Objective> objective;
    comm::agree(context.comm(), name(), [&] {
      objective = loss_->objective({spec, teachers, &probabilities, training_.objective});
    });
    auto result = train_model(context, name(), training_, spec, *objective, data,
                              nn::initial_state(spec, training_.options.seed));
    result.seconds.compute += taught;
    return result;
  }

 private:
  // The settings of the default stand beside the stage's own, as they are used in most decks.
  void read_loss(Settings& settings) {
    const auto& losses = share::distil_losses();
    constexpr std::string_view kDefault = "hinton";
    if (settings.has("loss") || settings.is_documenting()) {
      loss_ = losses.read(
          settings, "loss", kDefault,
          "how the student learns from its teachers; of the default, the settings may stand here");
    }
    if (!settings.has("loss")) loss_ = losses.get(kDefault).make(settings);
  }

  void check_loss(CheckContext& context, const nn::ModelSpec& student) const {
    std::vector<const nn::ModelSpec*> specs;
    for (const auto& teacher : teachers_) {
      const auto* outline = context.artifact(path() + ".teachers", teacher);
      if (outline == nullptr || outline->members.empty()) return;  // told already
      if (outline->is_ensemble() && !loss_->table_temperature()) {
        context.problem(path() + ".teachers",
                        fmt::format("expected one network, got the ensemble '{}'", teacher));
        return;
      }
      specs.push_back(&outline->spec());
    }
    try {
      loss_->check(student, specs);
    } catch (const Error& e) {
      context.problem(path() + ".loss", e.what());
    }
  }

  // (size, classes), the mean over the teachers.
  [[nodiscard]] Tensor teacher_probabilities(RunContext& context, const data::DatasetPtr& data,
                                             double temperature) const {
    Tensor mean;
    const auto part = 1.0F / static_cast<float>(teachers_.size());
    for (const auto& teacher : teachers_) {
      require_same_characters(context, teacher, training_.dataset);
      auto probabilities = share::probabilities(context.comm(), context.model(teacher), data, temperature,
                                                context.options().threads);
      for (auto& p : probabilities.values()) p *= part;
      if (mean.size() == 0) {
        mean = std::move(probabilities);
        continue;
      }
      const auto sum = mean.values();
      const auto more = probabilities.values();
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += more[i];
    }
    return mean;
  }

  std::vector<std::string> teachers_;
  std::string model_;
  std::unique_ptr<share::DistilLoss> loss_;
  train::Training training_;
};

}  // namespace

std::unique_ptr<Stage> make_distil(Settings& settings, const Deck& deck) {
  return std::make_unique<DistilStage>(settings, deck);
}

}  // namespace impart::stages

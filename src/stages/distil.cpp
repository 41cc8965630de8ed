// distil: a student learns from the labels and from its teachers' probabilities.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "impart/core/clock.hpp"
#include "impart/nn/network.hpp"
#include "impart/share/distil.hpp"
#include "impart/stages/check_context.hpp"
#include "impart/stages/run_context.hpp"
#include "impart/stages/training.hpp"
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
    settings.read("kd_weight", kd_weight_, between(0, 1), "of the teachers; the labels have the rest");
    settings.read("temperature", temperature_, above(0), "of the softmax, of teachers and student");
    training_ = read_training(settings, deck, "cross_entropy");
    const auto& objective = training_.objective;
    if (objective.kind != nn::ObjectiveKind::kCrossEntropy || !objective.class_weights.empty()) {
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

  [[nodiscard]] std::string model(const Deck& /*deck*/) const override { return model_; }
  [[nodiscard]] comm::MeshShape mesh() const override { return training_.mesh; }

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
    if (std::ranges::any_of(training_.augment, [](const auto& each) { return each->traits().mixes; })) {
      context.problem(path() + ".augment",
                      "teachers are asked once about each sample, not about mixtures: no mixup, no cutmix");
    }
    if (student == nullptr) return std::nullopt;
    check_groups(context, path(), training_, *student);
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
    const auto teacher = teacher_probabilities(context, data);
    const double taught = seconds_since(start);

    const auto& spec = *context.deck().find_model(model_);
    const auto objective = share::make_distillation(teacher, {kd_weight_, temperature_},
                                                    nn::make_objective(training_.objective));
    auto result = train_model(context, name(), training_, spec, *objective, data,
                              nn::initial_state(spec, training_.seed));
    result.seconds.compute += taught;
    return result;
  }

 private:
  // (size, classes), the mean over the teachers.
  [[nodiscard]] Tensor teacher_probabilities(RunContext& context, const data::DatasetPtr& data) const {
    Tensor mean;
    const auto part = 1.0F / static_cast<float>(teachers_.size());
    for (const auto& teacher : teachers_) {
      require_same_characters(context, teacher, training_.dataset);
      auto probabilities = share::probabilities(context.comm(), context.model(teacher), data, temperature_,
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
  double kd_weight_ = 0.5;
  double temperature_ = 4.0;
  TrainingSettings training_;
};

}  // namespace

std::unique_ptr<Stage> make_distil(Settings& settings, const Deck& deck) {
  return std::make_unique<DistilStage>(settings, deck);
}

}  // namespace impart::stages

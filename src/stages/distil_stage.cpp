// distil: a student learns from the labels and from its teachers' probabilities.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "impart/core/clock.hpp"
#include "impart/nn/network.hpp"
#include "impart/share/distil/distil.hpp"
#include "stages/check_context.hpp"
#include "stages/kinds.hpp"
#include "stages/run_context.hpp"

namespace impart::stages {

namespace {

class DistilStage final : public Stage {
 public:
  explicit DistilStage(const StageSettings& common)
      : Stage(common), settings_(std::get<DistilSettings>(common.settings)) {}

  [[nodiscard]] StageUses uses() const override {
    StageUses uses{{}, {settings_.model}, {settings_.training.dataset}};
    for (const auto& teacher : settings_.teachers) uses.artifacts.push_back({teacher, "teacher"});
    return uses;
  }

  [[nodiscard]] std::string describe() const override {
    return fmt::format("distil {} from {}", settings_.model, fmt::join(settings_.teachers, ", "));
  }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    const auto& path = common().path;
    const auto* student = context.model(path + ".model", settings_.model);
    for (const auto& teacher : settings_.teachers) {
      const auto* outline = context.artifact(path + ".teachers", teacher);
      if (outline == nullptr) continue;
      if (outline->members.empty()) {
        context.problem(path + ".teachers", fmt::format("'{}' leaves no model", teacher));
        continue;
      }
      const auto& spec = outline->spec();
      if (student != nullptr && (spec.input != student->input || spec.classes != student->classes)) {
        context.problem(path + ".teachers",
                        fmt::format("teacher '{}' maps {} to {} classes, the student {} to {}", teacher,
                                    spec.input.str(), spec.classes, student->input.str(), student->classes));
      }
    }
    if (std::ranges::any_of(settings_.training.augment,
                            [](const auto& each) { return each->traits().mixes; })) {
      context.problem(path + ".augment",
                      "teachers are asked once about each sample, not about mixtures: no mixup, no cutmix");
    }
    if (student == nullptr) return std::nullopt;
    context.training(path, settings_.training, *student);
    return ModelOutline{{*student}};
  }

  [[nodiscard]] double cost(RunContext& context) const override {
    return training_cost(context, settings_.training, *context.deck().find_model(settings_.model));
  }

  [[nodiscard]] int least_ranks(RunContext& context) const override {
    return least_training_ranks(settings_.training, *context.deck().find_model(settings_.model));
  }

  StageResult run(RunContext& context) const override {
    const auto& training = settings_.training;
    const auto data = context.training_data(training);
    const auto start = Clock::now();
    const auto teacher = teacher_probabilities(context, data);
    const double taught = seconds_since(start);

    const auto& spec = *context.deck().find_model(settings_.model);
    const auto objective = share::make_distillation(teacher, {settings_.kd_weight, settings_.temperature},
                                                    nn::make_objective(training.objective));
    auto result = train_model(context, name(), training, spec, *objective, data,
                              nn::initial_state(spec, training.seed));
    result.seconds.compute += taught;
    return result;
  }

 private:
  // (size, classes), the mean over the teachers.
  [[nodiscard]] Tensor teacher_probabilities(RunContext& context, const data::DatasetPtr& data) const {
    Tensor mean;
    const auto part = 1.0F / static_cast<float>(settings_.teachers.size());
    for (const auto& teacher : settings_.teachers) {
      require_same_characters(context, teacher, settings_.training.dataset);
      auto probabilities = share::probabilities(context.comm(), context.model(teacher), data,
                                                settings_.temperature, context.options().threads);
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

  DistilSettings settings_;
};

}  // namespace

std::unique_ptr<Stage> make_distil(const StageSettings& settings) {
  return std::make_unique<DistilStage>(settings);
}

}  // namespace impart::stages

// evaluate: every model on every dataset.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "impart/core/counted.hpp"
#include "impart/stages/check_context.hpp"
#include "impart/stages/run_context.hpp"
#include "stages/kinds.hpp"

namespace impart::stages {

namespace {

class EvaluateStage final : public Stage {
 public:
  explicit EvaluateStage(const StageSettings& common)
      : Stage(common), settings_(std::get<EvaluateSettings>(common.settings)) {}

  [[nodiscard]] StageUses uses() const override {
    StageUses uses{{}, {}, settings_.datasets};
    for (const auto& model : settings_.models) uses.artifacts.push_back({model, "evaluated"});
    return uses;
  }

  [[nodiscard]] std::string describe() const override {
    return fmt::format("evaluate {} on {}",
                       counted(static_cast<std::int64_t>(settings_.models.size()), "model"),
                       fmt::join(settings_.datasets, ", "));
  }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    const auto& path = common().path;
    for (const auto& dataset : settings_.datasets) {
      const auto* data = context.dataset(path + ".dataset", dataset);
      if (data != nullptr) context.need_part(path + ".dataset", dataset, *data, settings_.part);
    }
    for (const auto& model : settings_.models) {
      const auto* outline = context.artifact(path + ".models", model);
      if (outline == nullptr) continue;
      if (outline->members.empty()) {
        context.problem(path + ".models", fmt::format("'{}' leaves no model", model));
        continue;
      }
      for (const auto& dataset : settings_.datasets) {
        const auto* data = context.dataset(path + ".dataset", dataset);
        if (data != nullptr) context.match(path + ".models", outline->spec(), *data, dataset);
      }
    }
    return ModelOutline{};
  }

  StageResult run(RunContext& context) const override {
    StageResult result;
    const auto part = std::string(part_name(settings_.part));
    for (const auto& dataset : settings_.datasets) {
      const auto& samples = context.data(dataset).part(settings_.part);
      for (const auto& model : settings_.models) {
        auto metrics =
            share::evaluate(context.comm(), context.model(model), samples, context.options().threads);
        for (const auto& [metric, value] : metrics) {
          result.metrics[fmt::format("{}.{}.{}.{}", model, dataset, part, metric)] = value;
        }
        result.measurements.push_back({model, dataset, part, samples->size(), std::move(metrics)});
      }
    }
    return result;
  }

 private:
  EvaluateSettings settings_;
};

}  // namespace

std::unique_ptr<Stage> make_evaluate(const StageSettings& settings) {
  return std::make_unique<EvaluateStage>(settings);
}

}  // namespace impart::stages

// evaluate: every model on every dataset.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "impart/core/counted.hpp"
#include "impart/core/error.hpp"
#include "impart/metrics/metric.hpp"
#include "impart/stages/check_context.hpp"
#include "impart/stages/run_context.hpp"
#include "stages/kinds.hpp"

namespace impart::stages {

namespace {

class EvaluateStage final : public Stage {
 public:
  explicit EvaluateStage(Settings& settings) {
    read_inputs(settings, "models", models_, 1, "stages, or paths that end in .h5");
    read_inputs(settings, "dataset", datasets_, 1, "one dataset, or several");
    settings.choose("part", part_,
                    {{"validation", data::Part::kValidation},
                     {"train", data::Part::kTrain},
                     {"test", data::Part::kTest},
                     {"all", data::Part::kAll}},
                    "of each dataset");
    metrics_ = metrics::read_metrics(settings, "metrics");
  }

  [[nodiscard]] ArtifactType leaves() const override { return ArtifactType::kTable; }

  [[nodiscard]] StageUses uses() const override {
    StageUses uses{{}, {}, datasets_};
    for (const auto& model : models_) uses.artifacts.push_back({model, "evaluated"});
    return uses;
  }

  [[nodiscard]] std::string describe() const override {
    return fmt::format("evaluate {} on {}", counted(static_cast<std::int64_t>(models_.size()), "model"),
                       fmt::join(datasets_, ", "));
  }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    for (const auto& dataset : datasets_) {
      const auto* data = context.dataset(path() + ".dataset", dataset);
      if (data != nullptr) context.need_part(path() + ".dataset", dataset, *data, part_);
    }
    for (const auto& model : models_) {
      const auto* outline = context.artifact(path() + ".models", model);
      if (outline == nullptr) continue;
      if (outline->members.empty()) {
        context.problem(path() + ".models", fmt::format("'{}' leaves no model", model));
        continue;
      }
      for (const auto& dataset : datasets_) {
        const auto* data = context.dataset(path() + ".dataset", dataset);
        if (data != nullptr) context.match(path() + ".models", outline->spec(), *data, dataset);
      }
      for (const auto& metric : metrics_) {
        try {
          metric->check(outline->spec().classes);
        } catch (const Error& e) {
          context.problem(path() + ".metrics", e.what());
        }
      }
    }
    return ModelOutline{};
  }

  StageResult run(RunContext& context) const override {
    StageResult result;
    const auto part = std::string(data::part_name(part_));
    for (const auto& dataset : datasets_) {
      const auto& samples = context.data(dataset).part(part_);
      for (const auto& model : models_) {
        auto metrics = share::evaluate(context.comm(), context.model(model), samples,
                                       context.options().threads, metrics_);
        for (const auto& [metric, value] : metrics) {
          result.metrics[fmt::format("{}.{}.{}.{}", model, dataset, part, metric)] = value;
        }
        result.measurements.push_back({model, dataset, part, samples->size(), std::move(metrics)});
      }
    }
    return result;
  }

 private:
  std::vector<std::string> models_;
  std::vector<std::string> datasets_;
  std::vector<metrics::MetricPtr> metrics_;
  data::Part part_ = data::Part::kValidation;
};

}  // namespace

std::unique_ptr<Stage> make_evaluate(Settings& settings, const Deck& /*deck*/) {
  return std::make_unique<EvaluateStage>(settings);
}

}  // namespace impart::stages

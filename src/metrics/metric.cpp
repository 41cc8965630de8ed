#include "impart/metrics/metric.hpp"

#include <fmt/format.h>

#include <set>

#include "metrics/metrics.hpp"

namespace impart::metrics {

namespace {

constexpr Registry<MetricPtr>::Entry kMetrics[] = {
    {"accuracy", "part of the answers whose largest output is the label's", make_accuracy},
    {"f1_macro", "mean over the classes of F1, as scikit-learn's f1_score(average=\"macro\")", make_f1_macro},
    {"top_k_accuracy", "part of the answers with the label among the k largest outputs", make_top_k_accuracy},
};

MetricPtr make_metric(std::string_view kind) {
  auto settings = Settings::defaults();
  return classification_metrics().get(kind).make(settings);
}

}  // namespace

const Registry<MetricPtr>& classification_metrics() {
  static const Registry<MetricPtr> registry("metric", kMetrics);
  return registry;
}

const std::vector<MetricPtr>& default_metrics() {
  static const std::vector<MetricPtr> metrics{make_metric("accuracy"), make_metric("f1_macro")};
  return metrics;
}

std::vector<MetricPtr> read_metrics(Settings& settings, std::string_view key) {
  const bool is_there = settings.has(key);
  auto list = classification_metrics().read_list(
      settings, key, "what is told beside the loss; when it is not given, accuracy and f1_macro");
  std::set<std::string> names;
  for (const auto& metric : list) {
    if (!names.insert(metric->name()).second) {
      settings.problem(key, fmt::format("'{}' is there twice", metric->name()));
    }
  }
  return is_there ? list : default_metrics();
}

}  // namespace impart::metrics

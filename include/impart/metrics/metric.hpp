// Metric: what is counted of a model's outputs against labels, as sums that can be merged: never means of
// means.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "impart/core/registry.hpp"
#include "impart/core/settings.hpp"

namespace impart::metrics {

/// One row of outputs, and what it should have been.
struct Answer {
  std::span<const float> outputs;  ///< (classes): the larger, the likelier
  std::int32_t prediction = 0;     ///< argmax(outputs)
  std::int32_t label = 0;
};

/// A metric over the answers so far. Two of them, over different answers, add up.
class MetricSum {
 public:
  virtual ~MetricSum() = default;
  virtual void add(const Answer& answer) = 0;
  /// REQUIRES: `other` is of the same Metric and number of classes.
  virtual void merge(const MetricSum& other) = 0;
  [[nodiscard]] virtual double value() const = 0;  ///< 0 without answers
};

/// A kind of metric with its settings. Immutable.
class Metric {
 public:
  virtual ~Metric() = default;
  /// As it is told: "top5_accuracy".
  [[nodiscard]] virtual std::string name() const = 0;
  /// Throws Error (usage) when this says nothing of so many classes.
  virtual void check(int /*classes*/) const {}
  /// REQUIRES: check passes.
  [[nodiscard]] virtual std::unique_ptr<MetricSum> start(int classes) const = 0;
};

using MetricPtr = std::shared_ptr<const Metric>;

/// accuracy, f1_macro, top_k_accuracy.
const Registry<MetricPtr>& classification_metrics();
/// Those that are told when nobody asks for others: accuracy and f1_macro.
const std::vector<MetricPtr>& default_metrics();
/// A list of kinds, [ "accuracy", { kind = ... } ]; the default ones when it is not there. One that is there
/// twice is a problem.
std::vector<MetricPtr> read_metrics(Settings& settings, std::string_view key);

}  // namespace impart::metrics

// The kinds of metrics, one a file; metric.cpp has the table.
#pragma once

#include "impart/metrics/metric.hpp"

namespace impart::metrics {

MetricPtr make_accuracy(Settings& settings);
MetricPtr make_f1_macro(Settings& settings);
MetricPtr make_top_k_accuracy(Settings& settings);

/// The part of the answers that are right, as a kind judges them.
class RightPart : public MetricSum {
 public:
  void add(const Answer& answer) final {
    ++count_;
    right_ += is_right(answer) ? 1 : 0;
  }
  void merge(const MetricSum& other) final {
    const auto& part = dynamic_cast<const RightPart&>(other);
    count_ += part.count_;
    right_ += part.right_;
  }
  [[nodiscard]] double value() const final {
    return count_ == 0 ? 0 : static_cast<double>(right_) / static_cast<double>(count_);
  }

 private:
  [[nodiscard]] virtual bool is_right(const Answer& answer) const = 0;

  std::int64_t count_ = 0;
  std::int64_t right_ = 0;
};

}  // namespace impart::metrics

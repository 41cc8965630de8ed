#include "metrics/metrics.hpp"

namespace impart::metrics {

namespace {

class AccuracySum final : public RightPart {
  [[nodiscard]] bool is_right(const Answer& answer) const override {
    return answer.prediction == answer.label;
  }
};

class Accuracy final : public Metric {
 public:
  [[nodiscard]] std::string name() const override { return "accuracy"; }
  [[nodiscard]] std::unique_ptr<MetricSum> start(int /*classes*/) const override {
    return std::make_unique<AccuracySum>();
  }
};

}  // namespace

MetricPtr make_accuracy(Settings& /*settings*/) { return std::make_shared<Accuracy>(); }

}  // namespace impart::metrics

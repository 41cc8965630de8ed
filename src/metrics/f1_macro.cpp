#include "impart/metrics/classification.hpp"
#include "metrics/metrics.hpp"

namespace impart::metrics {

namespace {

class F1MacroSum final : public MetricSum {
 public:
  explicit F1MacroSum(int classes) : confusion_(classes) {}

  void add(const Answer& answer) override { confusion_.add(answer.label, answer.prediction); }
  void merge(const MetricSum& other) override {
    confusion_.merge(dynamic_cast<const F1MacroSum&>(other).confusion_);
  }
  [[nodiscard]] double value() const override { return confusion_.f1_macro(); }

 private:
  ConfusionMatrix confusion_;
};

class F1Macro final : public Metric {
 public:
  [[nodiscard]] std::string name() const override { return "f1_macro"; }
  [[nodiscard]] std::unique_ptr<MetricSum> start(int classes) const override {
    return std::make_unique<F1MacroSum>(classes);
  }
};

}  // namespace

MetricPtr make_f1_macro(Settings& /*settings*/) { return std::make_shared<F1Macro>(); }

}  // namespace impart::metrics

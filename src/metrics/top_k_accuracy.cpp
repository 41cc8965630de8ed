#include <fmt/format.h>

#include <algorithm>

#include "impart/core/error.hpp"
#include "metrics/metrics.hpp"

namespace impart::metrics {

namespace {

/// Whether fewer than k classes come before the label's. Equal outputs are ordered as scikit-learn's
/// top_k_accuracy_score orders them: the later class comes first. (PyTorch's topk leaves that open.) So with
/// k = 1 this is `accuracy`, but for answers with several largest outputs, of which that takes the first.
class TopKSum final : public RightPart {
 public:
  explicit TopKSum(std::int64_t k) : k_(k) {}

 private:
  [[nodiscard]] bool is_right(const Answer& answer) const override {
    const auto label = static_cast<std::size_t>(answer.label);
    const auto own = answer.outputs[label];
    const auto before =
        std::ranges::count_if(answer.outputs.first(label), [own](float x) { return x > own; }) +
        std::ranges::count_if(answer.outputs.subspan(label + 1), [own](float x) { return x >= own; });
    return before < k_;
  }

  std::int64_t k_;
};

class TopKAccuracy final : public Metric {
 public:
  explicit TopKAccuracy(Settings& settings) {
    settings.read("k", k_, at_least(1), "how many of the largest outputs count; below the number of classes");
  }

  [[nodiscard]] std::string name() const override { return fmt::format("top{}_accuracy", k_); }
  void check(int classes) const override {
    if (k_ < classes) return;
    throw Error("every answer would be right", ErrorKind::kUsage)
        .at("top_k_accuracy.k")
        .expected(fmt::format("fewer than the {} classes", classes))
        .got(std::to_string(k_));
  }
  [[nodiscard]] std::unique_ptr<MetricSum> start(int /*classes*/) const override {
    return std::make_unique<TopKSum>(k_);
  }

 private:
  std::int64_t k_ = 5;
};

}  // namespace

MetricPtr make_top_k_accuracy(Settings& settings) { return std::make_shared<TopKAccuracy>(settings); }

}  // namespace impart::metrics

// The penalty l2 / 2 ||w||^2 on weights, as part of the objective: unlike an optimizer's decoupled weight
// decay, it is in the reported loss, and its gradient passes through momentum.

#include <numeric>

#include "train/transforms/transforms.hpp"
#include "train/vector_sums.hpp"

namespace impart::train {

namespace {

class L2 final : public GradientTransform {
 public:
  explicit L2(double l2) : l2_(l2) {}

  [[nodiscard]] std::string_view name() const override { return "l2"; }

  double apply(const GradientStep& step) const override {
    if (l2_ == 0) return 0;
    const auto entries = step.parameters.entries();
    const auto sums = step.parameters.sums_of_tensors([&](const StateEntry& entry) {
      return entry.shape.rank() < 2 ? 0 : square_sum(step.state.values(entry));
    });
    const auto factor = static_cast<float>(l2_);
    const auto w = step.state.arena();
    const auto g = step.gradient.arena();
    step.parameters.for_pieces([&](const TrainedParameters::Piece& piece) {
      if (entries[piece.parameter].shape.rank() < 2) return;
      for (auto i = piece.begin; i < piece.begin + piece.size; ++i) g[i] += factor * w[i];
    });
    return l2_ / 2 * std::accumulate(sums.begin(), sums.end(), 0.0);
  }

 private:
  double l2_;
};

}  // namespace

GradientTransformPtr make_l2(double l2) { return std::make_shared<L2>(l2); }

GradientTransformPtr read_l2(Settings& settings) {
  double l2 = 1e-4;
  settings.read("l2", l2, at_least(0),
                "times half the sum of the squares of all weights is added to the loss");
  return make_l2(l2);
}

}  // namespace impart::train

// Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks", algorithm 1.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "train/transforms/transforms.hpp"
#include "train/vector_sums.hpp"

namespace impart::train {

namespace {

class ClipNorm final : public GradientTransform {
 public:
  explicit ClipNorm(double norm) : norm_(norm) {}

  [[nodiscard]] std::string_view name() const override { return "clip_norm"; }

  double apply(const GradientStep& step) const override {
    const auto g = step.gradient.arena();
    const auto sums = step.parameters.sums([&](const TrainedParameters::Piece& piece) {
      return square_sum(g.subspan(piece.begin, piece.size));
    });
    const double length = std::sqrt(std::accumulate(sums.begin(), sums.end(), 0.0));
    // As torch.nn.utils.clip_grad_norm_.
    const auto scale = static_cast<float>(std::min(1.0, norm_ / (length + 1e-6)));
    if (scale == 1) return 0;
    step.parameters.for_pieces([&](const TrainedParameters::Piece& piece) {
      for (auto i = piece.begin; i < piece.begin + piece.size; ++i) g[i] *= scale;
    });
    return 0;
  }

 private:
  double norm_;
};

}  // namespace

GradientTransformPtr make_clip_norm(double norm) { return std::make_shared<ClipNorm>(norm); }

GradientTransformPtr read_clip_norm(Settings& settings) {
  double norm = 1;
  settings.read("norm", norm, above(0), "the length that the gradient of all parameters together may have");
  return make_clip_norm(norm);
}

}  // namespace impart::train

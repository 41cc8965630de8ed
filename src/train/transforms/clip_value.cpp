// As torch.nn.utils.clip_grad_value_.

#include "train/transforms/transforms.hpp"

namespace impart::train {

namespace {

class ClipValue final : public GradientTransform {
 public:
  explicit ClipValue(double limit) : limit_(static_cast<float>(limit)) {}

  [[nodiscard]] std::string_view name() const override { return "clip_value"; }

  double apply(const GradientStep& step) const override {
    const auto g = step.gradient.arena();
    const float limit = limit_;
    step.parameters.for_pieces([&](const TrainedParameters::Piece& piece) {
      for (auto i = piece.begin; i < piece.begin + piece.size; ++i) {  // no comparison may lose a NaN
        const float above = g[i] < -limit ? -limit : g[i];
        g[i] = above > limit ? limit : above;
      }
    });
    return 0;
  }

 private:
  float limit_;
};

}  // namespace

GradientTransformPtr make_clip_value(double limit) { return std::make_shared<ClipValue>(limit); }

GradientTransformPtr read_clip_value(Settings& settings) {
  double limit = 1;
  settings.read("limit", limit, above(0), "the largest value, up or down, that a gradient may have");
  return make_clip_value(limit);
}

}  // namespace impart::train

#include <cmath>

#include "data/augment/augmentations.hpp"

namespace impart::data {

namespace {

/// A rectangle of the part `area` of the image about a random pixel; what lies outside is cut off.
Box draw_box(Rng& rng, const ImageSize& size, double area) {
  const double side = 0.5 * std::sqrt(area);
  const auto half_height = static_cast<std::int64_t>(side * static_cast<double>(size.height));
  const auto half_width = static_cast<std::int64_t>(side * static_cast<double>(size.width));
  const auto y = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(size.height)));
  const auto x = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(size.width)));
  return clipped({y - half_height, x - half_width, y + half_height, x + half_width}, size);
}

/// Yun, Han, Oh, Chun, Choe, Yoo: "CutMix: Regularization strategy to train strong classifiers with
/// localizable features", ICCV 2019. Lambda is the part of the image that is left.
class Cutmix final : public Augmentation {
 public:
  explicit Cutmix(Settings& settings) : Augmentation({.name = "cutmix", .mixes = true}, settings) {
    read_alpha(settings, alpha_);
  }

  float apply(const Shape& sample, Rng& rng, std::span<float> values, std::span<float> other) const override {
    const auto size = image_size(sample);
    const auto box = draw_box(rng, size, 1.0 - draw_lambda(rng, alpha_));
    paste_box(values, other, size, box);
    const auto pasted = static_cast<double>((box.bottom - box.top) * (box.right - box.left));
    return static_cast<float>(1.0 - pasted / static_cast<double>(size.height * size.width));
  }

 private:
  double alpha_ = 1.0;
};

}  // namespace

AugmentationPtr make_cutmix(Settings& settings) { return std::make_shared<Cutmix>(settings); }

}  // namespace impart::data

#include "data/augment/augmentations.hpp"

namespace impart::data {

namespace {

/// He, Zhang, Ren, Sun: "Deep residual learning for image recognition", CVPR 2016, section 4.2.
class Crop final : public Augmentation {
 public:
  explicit Crop(Settings& settings) : Augmentation({.name = "crop"}, settings) {
    settings.read("padding", pixels_, at_least(0).in("pixels"), "on every side");
    padding_.read(settings);
  }

  float apply(const Shape& sample, Rng& rng, std::span<float> values, std::span<float> other) const override {
    move_image(sample, rng, pixels_, pixels_, padding_, values, other);
    return 1.0F;
  }

 private:
  void check_size(const Shape& sample) const override {
    require_fit("padding", pixels_, 0, smaller_side(sample) - 1, sample);
  }

  std::int64_t pixels_ = 4;
  Padding padding_;
};

}  // namespace

AugmentationPtr make_crop(Settings& settings) { return std::make_shared<Crop>(settings); }

}  // namespace impart::data

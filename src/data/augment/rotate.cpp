#include <algorithm>

#include "data/augment/augmentations.hpp"

namespace impart::data {

namespace {

class Rotate final : public Augmentation {
 public:
  explicit Rotate(Settings& settings) : Augmentation({.name = "rotate"}, settings) {
    settings.read("degrees", degrees_, between(0, 180).in("degrees"), "at most, either way; bilinear");
    read_fill(settings, fill_);
  }

  float apply(const Shape& sample, Rng& rng, std::span<float> values, std::span<float> other) const override {
    std::ranges::copy(values, other.begin());
    rotate(other, image_size(sample), degrees_ * (2 * rng.uniform_double() - 1), static_cast<float>(fill_),
           values);
    return 1.0F;
  }

 private:
  double degrees_ = 10.0;
  double fill_ = 0.0;
};

}  // namespace

AugmentationPtr make_rotate(Settings& settings) { return std::make_shared<Rotate>(settings); }

}  // namespace impart::data

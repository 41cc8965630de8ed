#include "data/augment/augmentations.hpp"

namespace impart::data {

namespace {

class Flip final : public Augmentation {
 public:
  explicit Flip(Settings& settings) : Augmentation({.name = "flip"}, settings, 0.5) {
    settings.choose("direction", vertical_, {{"horizontal", false}, {"vertical", true}},
                    "left and right are exchanged, or top and bottom");
  }

  float apply(const Shape& sample, Rng& /*rng*/, std::span<float> values,
              std::span<float> /*other*/) const override {
    flip(values, image_size(sample), vertical_);
    return 1.0F;
  }

 private:
  bool vertical_ = false;
};

}  // namespace

AugmentationPtr make_flip(Settings& settings) { return std::make_shared<Flip>(settings); }

}  // namespace impart::data

#include <algorithm>
#include <cmath>

#include "data/augment/augmentations.hpp"

namespace impart::data {

namespace {

class Shift final : public Augmentation {
 public:
  explicit Shift(Settings& settings) : Augmentation({.name = "shift"}, settings) {
    settings.read("translate", translate_, below(0, 1),
                  "at most this part of height and width, in whole pixels");
    padding_.read(settings);
  }

  float apply(const Shape& sample, Rng& rng, std::span<float> values, std::span<float> other) const override {
    move_image(sample, rng, most(sample[1]), most(sample[2]), padding_, values, other);
    return 1.0F;
  }

 private:
  /// In whole pixels; at least one stays in the image.
  [[nodiscard]] std::int64_t most(std::int64_t extent) const {
    return std::min<std::int64_t>(std::llround(translate_ * static_cast<double>(extent)), extent - 1);
  }

  double translate_ = 0.1;
  Padding padding_;
};

}  // namespace

AugmentationPtr make_shift(Settings& settings) { return std::make_shared<Shift>(settings); }

}  // namespace impart::data

#include "data/augment/augmentations.hpp"

namespace impart::data {

namespace {

/// DeVries and Taylor: "Improved regularization of convolutional neural networks with cutout", 2017. A square's
/// centre is anywhere in the image.
class Cutout final : public Augmentation {
 public:
  explicit Cutout(Settings& settings) : Augmentation({.name = "cutout"}, settings) {
    settings.read("size", size_, at_least(1).in("pixels"), "side of a square");
    settings.read("holes", holes_, between(1, 1000), "squares");
    read_fill(settings, fill_);
  }

  float apply(const Shape& sample, Rng& rng, std::span<float> values,
              std::span<float> /*other*/) const override {
    const auto image = image_size(sample);
    for (std::int64_t hole = 0; hole < holes_; ++hole) {
      const auto y = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(image.height)));
      const auto x = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(image.width)));
      const auto top = y - size_ / 2;
      const auto left = x - size_ / 2;
      fill_box(values, image, clipped({top, left, top + size_, left + size_}, image),
               static_cast<float>(fill_));
    }
    return 1.0F;
  }

 private:
  void check_size(const Shape& sample) const override {
    require_fit("size", size_, 1, smaller_side(sample), sample);
  }

  std::int64_t size_ = 16;
  std::int64_t holes_ = 1;
  double fill_ = 0.0;
};

}  // namespace

AugmentationPtr make_cutout(Settings& settings) { return std::make_shared<Cutout>(settings); }

}  // namespace impart::data

#include "data/augment/augmentations.hpp"

namespace impart::data {

namespace {

class Noise final : public Augmentation {
 public:
  explicit Noise(Settings& settings) : Augmentation({.name = "noise", .images = false}, settings) {
    settings.renamed("deviation", "std");
    settings.read("std", std_, at_least(0), "standard deviation");
  }

  float apply(const Shape& /*sample*/, Rng& rng, std::span<float> values,
              std::span<float> /*other*/) const override {
    add_noise(values, static_cast<float>(std_), rng);
    return 1.0F;
  }

 private:
  double std_ = 0.1;
};

}  // namespace

AugmentationPtr make_noise(Settings& settings) { return std::make_shared<Noise>(settings); }

}  // namespace impart::data

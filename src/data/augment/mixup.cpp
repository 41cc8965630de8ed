#include "data/augment/augmentations.hpp"

namespace impart::data {

namespace {

/// Zhang, Cisse, Dauphin, Lopez-Paz: "mixup: Beyond empirical risk minimization", ICLR 2018.
class Mixup final : public Augmentation {
 public:
  explicit Mixup(Settings& settings)
      : Augmentation({.name = "mixup", .images = false, .mixes = true}, settings) {
    read_alpha(settings, alpha_);
  }

  float apply(const Shape& /*sample*/, Rng& rng, std::span<float> values,
              std::span<float> other) const override {
    const auto lambda = static_cast<float>(draw_lambda(rng, alpha_));
    const float rest = 1.0F - lambda;
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = lambda * values[i] + rest * other[i];
    return lambda;
  }

 private:
  double alpha_ = 0.2;
};

}  // namespace

AugmentationPtr make_mixup(Settings& settings) { return std::make_shared<Mixup>(settings); }

}  // namespace impart::data

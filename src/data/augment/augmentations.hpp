// The kinds of augmentation, one a file, and what they share; augmentations.cpp has the table.
#pragma once

#include "data/augment/image_changes.hpp"
#include "impart/data/augment.hpp"

namespace impart::data {

AugmentationPtr make_flip(Settings& settings);
AugmentationPtr make_crop(Settings& settings);
AugmentationPtr make_rotate(Settings& settings);
AugmentationPtr make_shift(Settings& settings);
AugmentationPtr make_cutout(Settings& settings);
AugmentationPtr make_noise(Settings& settings);
AugmentationPtr make_mixup(Settings& settings);
AugmentationPtr make_cutmix(Settings& settings);

/// What stands beyond an image's edge.
struct Padding {
  PaddingMode mode = PaddingMode::kConstant;
  double fill = 0.0;

  /// `padding_mode`, `fill`.
  void read(Settings& settings);
};
/// `fill`, the value of what is not there.
void read_fill(Settings& settings, double& fill);
/// `alpha` of Beta(alpha, alpha), from which lambda is drawn.
void read_alpha(Settings& settings, double& alpha);

/// Throws Error (usage) unless `value` is from `low` to `high`, as samples of this shape ask.
void require_fit(std::string_view setting, std::int64_t value, std::int64_t low, std::int64_t high,
                 const Shape& sample);

/// Height or width of images (C, H, W), whichever is smaller.
std::int64_t smaller_side(const Shape& sample);

/// Moves the image by whole pixels, uniform in +-most_down and +-most_right. `scratch` is of its size.
void move_image(const Shape& sample, Rng& rng, std::int64_t most_down, std::int64_t most_right,
                const Padding& padding, std::span<float> values, std::span<float> scratch);

/// Beta(alpha, alpha).
double draw_lambda(Rng& rng, double alpha);

}  // namespace impart::data

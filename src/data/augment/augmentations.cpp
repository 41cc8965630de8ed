#include "data/augment/augmentations.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "impart/core/error.hpp"

namespace impart::data {

namespace {

constexpr Registry<AugmentationPtr>::Entry kAugmentations[] = {
    {"flip", "mirrors images", make_flip},
    {"crop", "pads images on every side, then cuts them to the old size at a random place", make_crop},
    {"rotate", "turns images about their centre", make_rotate},
    {"shift", "moves images", make_shift},
    {"cutout", "erases squares of images", make_cutout},
    {"noise", "adds normal noise to every value", make_noise},
    {"mixup", "mixes two samples, value by value, and their labels", make_mixup},
    {"cutmix", "pastes a rectangle of another image, and mixes their labels", make_cutmix},
};

/// Uniform in -most to most, in whole steps.
std::int64_t draw_offset(Rng& rng, std::int64_t most) {
  return static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(2 * most + 1))) - most;
}

}  // namespace

const Registry<AugmentationPtr>& augmentations() {
  static const Registry<AugmentationPtr> registry("augmentation", kAugmentations);
  return registry;
}

AugmentationPtr make_augmentation(const SettingTable& table) {
  return read_settings(table, "augmentation",
                       [](Settings& settings) { return augmentations().make(settings, ""); });
}

Augmentation::Augmentation(const AugmentTraits& traits, Settings& settings, double probability)
    : traits_(traits), probability_(probability) {
  settings.read("probability", probability_, between(0, 1), "that a sample is changed");
}

void Augmentation::check(const Shape& sample) const {
  if (traits_.images && sample.rank() != 3) {
    throw Error(fmt::format("{} changes images", traits_.name), ErrorKind::kUsage)
        .expected("samples of shape (C, H, W)")
        .got(sample.str());
  }
  check_size(sample);
}

void Padding::read(Settings& settings) {
  settings.choose("padding_mode", mode,
                  {{"constant", PaddingMode::kConstant},
                   {"edge", PaddingMode::kEdge},
                   {"reflect", PaddingMode::kReflect}},
                  "what stands beyond the edge: `fill`, the nearest pixel, or the image mirrored");
  read_fill(settings, fill);
}

void read_fill(Settings& settings, double& fill) {
  settings.read("fill", fill, any_number(), "value of what is not there");
}

void read_alpha(Settings& settings, double& alpha) {
  settings.read("alpha", alpha, above(0),
                "lambda, the share of the sample itself, is drawn from Beta(alpha, alpha)");
}

void require_fit(std::string_view setting, std::int64_t value, std::int64_t low, std::int64_t high,
                 const Shape& sample) {
  if (value >= low && value <= high) return;
  throw Error("does not fit the samples", ErrorKind::kUsage)
      .at(std::string(setting))
      .expected(fmt::format("{} to {} for images of {}", low, high, sample.str()))
      .got(std::to_string(value));
}

std::int64_t smaller_side(const Shape& sample) { return std::min(sample[1], sample[2]); }

void move_image(const Shape& sample, Rng& rng, std::int64_t most_down, std::int64_t most_right,
                const Padding& padding, std::span<float> values, std::span<float> scratch) {
  const auto down = draw_offset(rng, most_down);
  const auto right = draw_offset(rng, most_right);
  std::ranges::copy(values, scratch.begin());
  translate(scratch, image_size(sample), down, right, padding.mode, static_cast<float>(padding.fill), values);
}

double draw_lambda(Rng& rng, double alpha) {
  const double own = rng.gamma(alpha);
  const double other = rng.gamma(alpha);
  // For a tiny alpha both may underflow; then the sample stays what it is.
  return own + other > 0 ? own / (own + other) : 1.0;
}

}  // namespace impart::data

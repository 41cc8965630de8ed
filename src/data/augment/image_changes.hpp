// Changes of one image, wholly given by their arguments; augmentations draw those.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "impart/core/rng.hpp"
#include "impart/core/tensor.hpp"

namespace impart::data {

enum class PaddingMode : std::uint8_t {
  kConstant,  ///< one value
  kEdge,      ///< the nearest pixel
  kReflect,   ///< the image mirrored at its outermost pixel
};

/// Extents of an image, (C, H, W) row-major.
struct ImageSize {
  std::int64_t channels = 1;
  std::int64_t height = 1;
  std::int64_t width = 1;
};
inline ImageSize image_size(const Shape& sample) { return {sample[0], sample[1], sample[2]}; }

/// A rectangle of pixels: rows top to bottom - 1, columns left to right - 1.
struct Box {
  std::int64_t top = 0;
  std::int64_t left = 0;
  std::int64_t bottom = 0;
  std::int64_t right = 0;
};

/// The part of a rectangle that lies in the image.
Box clipped(const Box& box, const ImageSize& size);

void flip(std::span<float> image, const ImageSize& size, bool vertical);

/// out[y][x] = image[y + down][x + right], in every channel. REQUIRES: with kReflect, |down| < height and
/// |right| < width.
void translate(std::span<const float> image, const ImageSize& size, std::int64_t down, std::int64_t right,
               PaddingMode mode, float fill, std::span<float> out);

/// Turned about its centre by `degrees`, anticlockwise as one sees it: bilinear, with `fill` outside.
void rotate(std::span<const float> image, const ImageSize& size, double degrees, float fill,
            std::span<float> out);

/// REQUIRES: `box` lies in the image.
void fill_box(std::span<float> image, const ImageSize& size, const Box& box, float fill);
void paste_box(std::span<float> image, std::span<const float> from, const ImageSize& size, const Box& box);

/// Adds `deviation` times a normal variate to each value.
void add_noise(std::span<float> values, float deviation, Rng& rng);

}  // namespace impart::data

#include "data/image_changes.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace impart::data {

namespace {

/// The position that stands for `at` outside 0 to extent - 1; -1 for the fill.
std::int64_t inside(std::int64_t at, std::int64_t extent, PaddingMode mode) {
  if (at >= 0 && at < extent) return at;
  switch (mode) {
    case PaddingMode::kConstant:
      return -1;
    case PaddingMode::kEdge:
      return at < 0 ? 0 : extent - 1;
    case PaddingMode::kReflect:
      return at < 0 ? -at : 2 * (extent - 1) - at;
  }
  return -1;
}

/// Normal variates from 32 random bits each, several times as fast as Rng::normal: the inverse of the
/// distribution function, from a table of straight pieces, off by less than 2e-4; the tails, where it bends
/// most, are computed.
class NormalTable {
 public:
  NormalTable() {
    for (std::size_t i = 1; i < kPieces; ++i) {
      values_[i] = static_cast<float>(inverse_normal_cdf(static_cast<double>(i) / kPieces));
    }
  }

  float operator()(std::uint32_t bits) const {
    const auto piece = bits >> kShift;
    if (piece < kTail || piece >= kPieces - kTail) {
      return static_cast<float>(inverse_normal_cdf((static_cast<double>(bits) + 0.5) * 0x1.0p-32));
    }
    const float part = static_cast<float>(bits & ((1U << kShift) - 1)) * 0x1.0p-20F;
    return values_[piece] + (values_[piece + 1] - values_[piece]) * part;
  }

 private:
  static constexpr std::uint32_t kShift = 20;
  static constexpr std::uint32_t kPieces = 1U << (32 - kShift);
  static constexpr std::uint32_t kTail = 16;

  std::array<float, kPieces> values_{};
};

}  // namespace

Box clipped(const Box& box, const ImageSize& size) {
  return {std::clamp<std::int64_t>(box.top, 0, size.height),
          std::clamp<std::int64_t>(box.left, 0, size.width),
          std::clamp<std::int64_t>(box.bottom, 0, size.height),
          std::clamp<std::int64_t>(box.right, 0, size.width)};
}

void flip(std::span<float> image, const ImageSize& size, bool vertical) {
  auto* const rows = image.data();
  if (!vertical) {
    for (std::int64_t row = 0; row < size.channels * size.height; ++row) {
      std::reverse(rows + row * size.width, rows + (row + 1) * size.width);
    }
    return;
  }
  for (std::int64_t c = 0; c < size.channels; ++c) {
    auto* const plane = rows + c * size.height * size.width;
    for (std::int64_t y = 0; y < size.height / 2; ++y) {
      std::swap_ranges(plane + y * size.width, plane + (y + 1) * size.width,
                       plane + (size.height - 1 - y) * size.width);
    }
  }
}

void translate(std::span<const float> image, const ImageSize& size, std::int64_t down, std::int64_t right,
               PaddingMode mode, float fill, std::span<float> out) {
  const auto w = size.width;
  // The columns between these are within the image: one copy.
  const auto begin = std::clamp<std::int64_t>(-right, 0, w);
  const auto end = std::clamp<std::int64_t>(w - right, begin, w);
  for (std::int64_t c = 0; c < size.channels; ++c) {
    for (std::int64_t y = 0; y < size.height; ++y) {
      auto* const to = out.data() + (c * size.height + y) * w;
      const auto row = inside(y + down, size.height, mode);
      if (row < 0) {
        std::fill(to, to + w, fill);
        continue;
      }
      const auto* const from = image.data() + (c * size.height + row) * w;
      const auto border = [&](std::int64_t x) {
        const auto column = inside(x + right, w, mode);
        to[x] = column < 0 ? fill : from[column];
      };
      for (std::int64_t x = 0; x < begin; ++x) border(x);
      std::copy(from + begin + right, from + end + right, to + begin);
      for (std::int64_t x = end; x < w; ++x) border(x);
    }
  }
}

void rotate(std::span<const float> image, const ImageSize& size, double degrees, float fill,
            std::span<float> out) {
  const auto [channels, height, width] = size;
  const double angle = degrees * std::numbers::pi / 180.0;
  const auto cosine = static_cast<float>(std::cos(angle));
  const auto sine = static_cast<float>(std::sin(angle));
  const float middle_y = 0.5F * static_cast<float>(height - 1);
  const float middle_x = 0.5F * static_cast<float>(width - 1);

  // With a frame of `fill` around each plane, a pixel's four neighbours need no test: whatever lies outside is
  // moved onto the frame, which is a pixel wide, and two at the right and below.
  const auto stride = width + 3;
  const auto plane = (height + 3) * stride;
  const auto last_x = static_cast<float>(width + 1);
  const auto last_y = static_cast<float>(height + 1);
  thread_local std::vector<float> framed;
  framed.assign(static_cast<std::size_t>(channels * plane), fill);
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t y = 0; y < height; ++y) {
      const auto* const from = image.data() + (c * height + y) * width;
      std::copy(from, from + width, framed.data() + c * plane + (y + 1) * stride + 1);
    }
  }

  // Where the pixels of one row come from: the upper left neighbour, and how near they are to the others.
  thread_local std::vector<std::int32_t> corner;
  thread_local std::vector<float> part_x;
  thread_local std::vector<float> part_y;
  for (auto* each : {&part_x, &part_y}) each->resize(static_cast<std::size_t>(width));
  corner.resize(static_cast<std::size_t>(width));
  for (std::int64_t y = 0; y < height; ++y) {
    const float dy = static_cast<float>(y) - middle_y;
    for (std::size_t x = 0; x < corner.size(); ++x) {
      const float dx = static_cast<float>(static_cast<std::int32_t>(x)) - middle_x;
      // In the framed plane; rows count downwards.
      const float at_x = std::clamp(cosine * dx - sine * dy + middle_x + 1.0F, 0.0F, last_x);
      const float at_y = std::clamp(sine * dx + cosine * dy + middle_y + 1.0F, 0.0F, last_y);
      const auto column = static_cast<std::int32_t>(at_x);
      const auto row = static_cast<std::int32_t>(at_y);
      corner[x] = row * static_cast<std::int32_t>(stride) + column;
      part_x[x] = at_x - static_cast<float>(column);
      part_y[x] = at_y - static_cast<float>(row);
    }
    for (std::int64_t c = 0; c < channels; ++c) {
      const auto* const upper_left = framed.data() + c * plane;
      auto* const to = out.data() + (c * height + y) * width;
      for (std::size_t x = 0; x < corner.size(); ++x) {
        const auto* const upper = upper_left + corner[x];
        const auto* const lower = upper + stride;
        const float above = upper[0] + (upper[1] - upper[0]) * part_x[x];
        const float below = lower[0] + (lower[1] - lower[0]) * part_x[x];
        to[x] = above + (below - above) * part_y[x];
      }
    }
  }
}

void fill_box(std::span<float> image, const ImageSize& size, const Box& box, float fill) {
  for (std::int64_t c = 0; c < size.channels; ++c) {
    for (auto y = box.top; y < box.bottom; ++y) {
      auto* const row = image.data() + (c * size.height + y) * size.width;
      std::fill(row + box.left, row + box.right, fill);
    }
  }
}

void paste_box(std::span<float> image, std::span<const float> from, const ImageSize& size, const Box& box) {
  for (std::int64_t c = 0; c < size.channels; ++c) {
    for (auto y = box.top; y < box.bottom; ++y) {
      const auto row = (c * size.height + y) * size.width;
      std::copy(from.data() + row + box.left, from.data() + row + box.right, image.data() + row + box.left);
    }
  }
}

void add_noise(std::span<float> values, float deviation, Rng& rng) {
  static const NormalTable normal;
  for (auto& value : values) value += deviation * normal(rng.next());
}

}  // namespace impart::data

#include "data/augment/image_changes.hpp"

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

/// An image with a frame of `fill` around each plane, for values between its pixels: their four neighbours
/// need no test, since what lies outside is moved onto the frame.
class Frame {
 public:
  /// The upper left of a place's neighbours, and how near it is to the others.
  struct Place {
    std::int32_t corner = 0;
    float down = 0;
    float right = 0;
  };

  void put(std::span<const float> image, const ImageSize& size, float fill) {
    height_ = size.height;
    width_ = size.width;
    // A pixel wide above and at the left, two below and at the right.
    stride_ = width_ + 3;
    plane_ = (height_ + 3) * stride_;
    values_.assign(static_cast<std::size_t>(size.channels * plane_), fill);
    for (std::int64_t c = 0; c < size.channels; ++c) {
      for (std::int64_t y = 0; y < height_; ++y) {
        const auto* const from = image.data() + (c * height_ + y) * width_;
        std::copy(from, from + width_, values_.data() + c * plane_ + (y + 1) * stride_ + 1);
      }
    }
  }

  /// In pixels of the image.
  [[nodiscard]] Place place(float y, float x) const {
    const float down = std::clamp(y + 1.0F, 0.0F, static_cast<float>(height_ + 1));
    const float right = std::clamp(x + 1.0F, 0.0F, static_cast<float>(width_ + 1));
    const auto row = static_cast<std::int32_t>(down);
    const auto column = static_cast<std::int32_t>(right);
    return {row * static_cast<std::int32_t>(stride_) + column, down - static_cast<float>(row),
            right - static_cast<float>(column)};
  }

  /// Bilinear.
  [[nodiscard]] float value(std::int64_t channel, const Place& place) const {
    const auto* const upper = values_.data() + channel * plane_ + place.corner;
    const auto* const lower = upper + stride_;
    const float above = upper[0] + (upper[1] - upper[0]) * place.right;
    const float below = lower[0] + (lower[1] - lower[0]) * place.right;
    return above + (below - above) * place.down;
  }

 private:
  std::int64_t height_ = 0;
  std::int64_t width_ = 0;
  std::int64_t stride_ = 0;
  std::int64_t plane_ = 0;
  std::vector<float> values_;
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
  const double angle = degrees * std::numbers::pi / 180.0;
  const auto cosine = static_cast<float>(std::cos(angle));
  const auto sine = static_cast<float>(std::sin(angle));
  const float middle_y = 0.5F * static_cast<float>(size.height - 1);
  const float middle_x = 0.5F * static_cast<float>(size.width - 1);
  thread_local Frame frame;
  frame.put(image, size, fill);
  thread_local std::vector<Frame::Place> row;
  row.resize(static_cast<std::size_t>(size.width));
  for (std::int64_t y = 0; y < size.height; ++y) {
    const float dy = static_cast<float>(y) - middle_y;
    for (std::size_t x = 0; x < row.size(); ++x) {
      // Where the pixel comes from; rows count downwards.
      const float dx = static_cast<float>(static_cast<std::int32_t>(x)) - middle_x;
      row[x] = frame.place(sine * dx + cosine * dy + middle_y, cosine * dx - sine * dy + middle_x);
    }
    for (std::int64_t c = 0; c < size.channels; ++c) {
      auto* const to = out.data() + (c * size.height + y) * size.width;
      for (std::size_t x = 0; x < row.size(); ++x) to[x] = frame.value(c, row[x]);
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
  std::array<std::uint32_t, 1024> bits;
  for (std::size_t done = 0; done < values.size(); done += bits.size()) {
    const auto some = values.subspan(done, std::min(bits.size(), values.size() - done));
    rng.fill(std::span(bits).first(some.size()));
    for (std::size_t i = 0; i < some.size(); ++i) some[i] += deviation * normal(bits[i]);
  }
}

}  // namespace impart::data

// Windows and images as plain numbers, for layers and kernels alike.
#pragma once

#include <cstdint>

namespace impart::nn {

/// A square window that slides over an image, as convolutions and poolings have.
struct Window {
  std::int64_t kernel = 1;
  std::int64_t stride = 1;
  std::int64_t padding = 0;
  std::int64_t dilation = 1;  ///< distance of neighbouring taps

  /// What the taps span: dilation (kernel - 1) + 1.
  [[nodiscard]] std::int64_t reach() const { return dilation * (kernel - 1) + 1; }
  /// floor((extent + 2 padding - reach) / stride) + 1, as PyTorch counts; below 1 when the window does not
  /// fit.
  [[nodiscard]] std::int64_t output_extent(std::int64_t extent) const;
};

/// Extents of one image: (C, H, W).
struct ImageShape {
  std::int64_t channels = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
};

/// One convolution of a batch: (N, H, W, C) with weights (O, C / groups, K, K) to (N, OH, OW, O).
struct ConvGeometry {
  std::int64_t batch = 0;
  std::int64_t channels = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t filters = 0;
  std::int64_t out_height = 0;
  std::int64_t out_width = 0;
  Window window;
  std::int64_t groups = 1;  ///< divides channels and filters
  std::int64_t shards = 1;  ///< a power of two; the batch is that many equal parts of whole samples

  /// Values of the weight of one filter.
  [[nodiscard]] std::int64_t taps() const { return channels / groups * window.kernel * window.kernel; }
  /// Operations of the products of one direction, a multiplication and an addition being two.
  [[nodiscard]] double flops() const {
    return 2.0 * static_cast<double>(batch * out_height * out_width) * static_cast<double>(filters * taps());
  }
  /// Values of one shard's images, before and after.
  [[nodiscard]] std::int64_t shard_input() const { return batch / shards * height * width * channels; }
  [[nodiscard]] std::int64_t shard_output() const {
    return batch / shards * out_height * out_width * filters;
  }
};

/// One pooling of a batch: (N, H, W, C) to (N, OH, OW, C).
struct PoolGeometry {
  std::int64_t batch = 0;
  std::int64_t channels = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t out_height = 0;
  std::int64_t out_width = 0;
  Window window;
};

PoolGeometry pool_geometry(const Window& window, std::int64_t batch, const ImageShape& image);

}  // namespace impart::nn

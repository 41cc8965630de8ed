// Windows and images as plain numbers, for layers and kernels alike.
#pragma once

#include <cstdint>

namespace impart::nn {

/// A square window that slides over an image, as convolutions and poolings have.
struct Window {
  std::int64_t kernel = 1;
  std::int64_t stride = 1;
  std::int64_t padding = 0;

  /// floor((extent + 2 padding - kernel) / stride) + 1, as PyTorch counts; below 1 when the window does not
  /// fit.
  [[nodiscard]] std::int64_t output_extent(std::int64_t extent) const;
};

/// Extents of one image: (C, H, W).
struct ImageShape {
  std::int64_t channels = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
};

/// One convolution of a batch: (N, H, W, C) with weights (O, C, K, K) to (N, OH, OW, O).
struct ConvGeometry {
  std::int64_t batch = 0;
  std::int64_t channels = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t filters = 0;
  std::int64_t out_height = 0;
  std::int64_t out_width = 0;
  Window window;
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

// Normalisation of the channels of a table of rows, as batch_norm needs it: images are channels last, so that
// (N, H, W, C) and (N, C) are both a table.
#pragma once

#include <cstdint>

namespace impart::nn {

enum class Rectifier : std::uint8_t {
  kNone,
  kRelu,   ///< max(y, 0)
  kRelu6,  ///< min(max(y, 0), 6)
};

/// y = rectifier((x - mean) * scale + bias + other), channel by channel. NaN stays NaN.
struct Norm {
  std::int64_t rows = 0;
  std::int64_t channels = 0;
  Rectifier rectifier = Rectifier::kNone;
  const float* mean = nullptr;   ///< (channels), as the two below
  const float* scale = nullptr;  ///< the weight over the standard deviation
  const float* bias = nullptr;
};

/// grad_x = grad_scale * g + x_scale * (x - mean) + offset, where g is what the rectifier lets pass.
struct NormGradient {
  const float* grad_scale = nullptr;  ///< (channels), as the two below
  const float* x_scale = nullptr;
  const float* offset = nullptr;
};

}  // namespace impart::nn

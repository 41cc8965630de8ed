// impart's own kernels on channels-last images, compiled once for each instruction set.
#pragma once

#include <cstdint>

#include "nn/geometry.hpp"

namespace impart::nn {

/// Index byte of a pooled value that passes no gradient, because the rectifier has cut it off.
inline constexpr std::uint8_t kNoWinner = 255;
/// Largest pooling kernel whose positions fit into an index byte beside kNoWinner.
inline constexpr std::int64_t kMaxPoolKernel = 15;

struct KernelTable {
  /// Maximum of each window, with its place in the window in `index`. NaN wins, as in PyTorch. With `relu`, values that
  /// are not positive become 0 and their index kNoWinner: rectifying before or after the maximum is the same.
  void (*max_pool_forward)(const PoolGeometry& g, bool relu, const float* x, float* y, std::uint8_t* index);
  /// Writes all of `grad_x`.
  void (*max_pool_backward)(const PoolGeometry& g, const float* grad_y, const std::uint8_t* index,
                            float* grad_x);
};

/// The kernels for the best instruction set of this machine.
const KernelTable& kernels();

/// For each image: rows x columns to columns x rows.
void transpose_images(const float* from, std::int64_t images, std::int64_t rows, std::int64_t columns,
                      float* to);

}  // namespace impart::nn

// impart's own kernels on channels-last images, compiled once for each instruction set.
#pragma once

#include <cstdint>

#include "nn/kernels/depthwise.hpp"
#include "nn/kernels/gemm.hpp"
#include "nn/kernels/geometry.hpp"
#include "nn/kernels/norm.hpp"
#include "nn/kernels/winograd.hpp"

namespace impart::nn {

/// Index byte of a pooled value that passes no gradient, because the rectifier has cut it off.
inline constexpr std::uint8_t kNoWinner = 255;
/// Largest pooling kernel whose positions fit into an index byte beside kNoWinner.
inline constexpr std::int64_t kMaxPoolKernel = 15;

/// One pooled value that carries a gradient: where the patch of the input that it was computed from starts in
/// its image (in floats), and the gradient.
struct Winner {
  std::int32_t patch;
  float grad;
};

/// The winners of one image, by filter: `counts[f]` of them at `list + f * stride`.
struct WinnerLists {
  const Winner* list;
  const std::int32_t* counts;
  std::int64_t stride;
};

/// How a patch of K rows of K * C floats lies in an image, and how many filters look at it.
struct PatchGeometry {
  std::int64_t filters = 0;
  std::int64_t rows = 0;        ///< K
  std::int64_t row_floats = 0;  ///< K * C, a multiple of 16
  std::int64_t row_stride = 0;  ///< W * C
};

/// A convolution with few taps a filter, max pooled by 2x2, on one image.
struct FewTaps {
  std::int64_t filters = 0;
  std::int64_t taps = 0;                      ///< K * K * C
  const std::int32_t* tap_offsets = nullptr;  ///< (taps), from a patch's start, in floats
  std::int64_t out_height = 0;                ///< of the pooled image
  std::int64_t out_width = 0;
  std::int64_t window_offsets[4] = {};  ///< patches of a pooling window's four values, from the first one
  std::int64_t x_step = 0;              ///< from one pooling window to the next in a row, in floats
  std::int64_t y_step = 0;              ///< and to the next row
  bool relu = false;
};

struct KernelTable {
  /// Maximum of each window, with its place in the window in `index`. NaN wins, as in PyTorch. With `relu`,
  /// values that are not positive become 0 and their index kNoWinner: rectifying before or after the maximum
  /// is the same.
  void (*max_pool_forward)(const PoolGeometry& g, bool relu, const float* x, float* y, std::uint8_t* index);
  /// Writes all of `grad_x`.
  void (*max_pool_backward)(const PoolGeometry& g, const float* grad_y, const std::uint8_t* index,
                            float* grad_x);

  /// sum (filters, K, K, C) += gradient x patch, over the winners of one image.
  void (*winner_weights)(const PatchGeometry& g, const WinnerLists& winners, const float* image, float* sum);
  /// grad_image (H, W, C) += gradient x weight (filters, K, K, C), over the winners of one image.
  void (*winner_data)(const PatchGeometry& g, const WinnerLists& winners, const float* weight,
                      float* grad_image);

  /// Convolution, pooling and rectifier in one. weight (taps, filters), bias (filters) or null; y and index
  /// (OH, OW, filters), as max_pool_forward writes them.
  void (*few_taps_forward)(const FewTaps& t, const float* image, const float* weight, const float* bias,
                           float* y, std::uint8_t* index);
  /// sum (taps, filters) += gradient x patch, over the winners of one image.
  void (*few_taps_weights)(const FewTaps& t, const float* image, const float* grad_y,
                           const std::uint8_t* index, float* sum);

  /// Rows of a tile of the products below, and columns of a panel.
  std::int64_t tile_rows;
  std::int64_t tile_columns;
  /// Fastest when a row tile of `a` stays in the nearest cache and `b` in the next one.
  void (*product)(const Product& g);
  void (*outer_product)(const OuterProduct& g);
  void (*transpose)(const Transpose& t);
  void (*gather_patches)(const Patches& p, const PatchRows& rows);
  void (*pack_outer)(const OuterPanels& p);
  void (*pack_rows)(const RowPanels& p);

  /// y = or += winograd's correlation of x with weight, plus bias (filters) or null, rectified when `w` says
  /// so. scratch has w.floats.
  void (*winograd_conv)(const WinogradConv& w, const float* x, const float* weight, const float* bias,
                        bool add, float* y, float* scratch);
  /// The gradient of the weights from one group of shards, whose images start at x and grad_y, to `to`: as
  /// the weights are, or in blocks as winograd_unblock takes them. scratch has w.floats.
  void (*winograd_weights)(const WinogradWeights& w, const float* x, const float* grad_y, bool in_blocks,
                           float* to, float* scratch);
  void (*winograd_unblock)(const WinogradWeights& w, const float* blocks, float* grad_weight);

  /// Mean and variance of each channel of x (rows, channels) to `sums` (2, channels); the variance divides by
  /// the number of rows. work (3, channels).
  void (*norm_measure)(std::int64_t rows, std::int64_t channels, const float* x, float* work, double* sums);
  /// y (rows, channels) from x and `other`, which may be null.
  void (*norm_forward)(const Norm& n, const float* x, const float* other, float* y);
  /// Sums of g and of g * (x - mean) to `sums` (2, channels), where g is what the rectifier lets pass.
  /// Without `other`, y is null. With it, y tells what passes, and grad_y becomes g. work (2, channels).
  void (*norm_gradient_sums)(const Norm& n, const float* x, const float* y, float* grad_y, float* work,
                             double* sums);
  /// grad_x (rows, channels) = or += the gradient.
  void (*norm_backward)(const Norm& n, const NormGradient& g, const float* x, const float* grad_y, bool add,
                        float* grad_x);

  /// y = f(x), for n values; y may be x.
  void (*sigmoid)(std::int64_t n, const float* x, float* y);
  void (*tanh)(std::int64_t n, const float* x, float* y);
  void (*gelu)(std::int64_t n, const float* x, float* y);
  /// grad_x may be grad_y.
  void (*gelu_backward)(std::int64_t n, const float* x, const float* grad_y, float* grad_x);
  /// y = softmax(scale x), a row of n values; y may be x. scale > 0, n > 0.
  void (*softmax)(std::int64_t n, float scale, const float* x, float* y);
  /// grad_x may be grad_y.
  void (*softmax_backward)(std::int64_t n, float scale, const float* y, const float* grad_y, float* grad_x);

  /// y (N, OH, OW, C) = or += the convolution of x.
  void (*depthwise_forward)(const DepthwiseConv& d, const float* x, float* y);
  /// grad_x (N, H, W, C) = or += the gradient, for any stride.
  void (*depthwise_data)(const DepthwiseConv& d, const float* grad_y, float* grad_x);
  /// Writes the sums over all pixels to `sums` (K * K, C).
  void (*depthwise_weights)(const DepthwiseConv& d, const float* x, const float* grad_y, float* sums);

  /// Floating-point operations of one round of the loop, which does nothing but multiply-adds on registers.
  std::int64_t peak_operations;
  float (*multiply_add_chains)(std::int64_t rounds);
};

/// The kernels for the best instruction set of this machine.
const KernelTable& kernels();

/// For each image: rows x columns to columns x rows.
void transpose_images(const float* from, std::int64_t images, std::int64_t rows, std::int64_t columns,
                      float* to);

}  // namespace impart::nn

// Convolutions that a max pooling follows, with our own kernels where they beat general ones.
#pragma once

#include <cstdint>
#include <vector>

#include "impart/core/aligned.hpp"
#include "impart/nn/layer.hpp"
#include "nn/kernels/geometry.hpp"
#include "nn/kernels/kernels.hpp"

namespace impart::nn {

/// Backward pass of a convolution and the max pooling after it. Of each window one value alone carries a
/// gradient (and none where a rectifier has cut it off), so the sums run over these winners: for 2x2 windows
/// about an eighth of the work of the general convolution, and no image of mostly zeros is ever written.
class WinnerConv {
 public:
  /// Whether it can serve this layer, and does less work than the general convolution.
  static bool serves(const ConvGeometry& conv, const PoolGeometry& pool);

  /// Its tables are counted in `scratch`.
  WinnerConv(const ConvGeometry& conv, const PoolGeometry& pool, Scratch& scratch);

  /// `weight`: (O, C, K, K) row-major.
  void load(const float* weight);
  /// x (N, H, W, C); grad_y and winners (N, PH, PW, O), as max_pool_forward wrote them. Each of grad_weight
  /// (O, C, K, K), grad_bias (O) and grad_x may be null.
  void backward(const float* x, const float* grad_y, const std::uint8_t* winners, float* grad_weight,
                float* grad_bias, float* grad_x);

 private:
  WinnerLists collect(const float* grad_y, const std::uint8_t* winners);

  ConvGeometry conv_;
  PoolGeometry pool_;
  PatchGeometry patch_;
  std::vector<std::int32_t> windows_;    // patch of each pooling window's first value
  std::vector<std::int32_t> in_window_;  // patch of each value of a window, from its first one
  std::vector<Winner> list_;             // (filters, windows)
  std::vector<std::int32_t> counts_;     // (filters)
  AlignedBuffer<float> weight_;          // (O, K, K, C)
  AlignedBuffer<float> sum_;             // (O, K, K, C)
};

/// Forward pass and gradient of the weights of a convolution with few taps (a network's first layer), max
/// pooled by 2x2: the large image between the two is never written.
class FewTapsConv {
 public:
  static bool serves(const ConvGeometry& conv, const PoolGeometry& pool);

  /// As WinnerConv's.
  FewTapsConv(const ConvGeometry& conv, const PoolGeometry& pool, bool relu, Scratch& scratch);

  /// `weight`: (O, C, K, K) row-major; `bias` (O) is kept by reference, may be null.
  void load(const float* weight, const float* bias);
  void forward(const float* x, float* y, std::uint8_t* winners);
  /// As WinnerConv::backward, without grad_x.
  void backward(const float* x, const float* grad_y, const std::uint8_t* winners, float* grad_weight,
                float* grad_bias);

 private:
  ConvGeometry conv_;
  PoolGeometry pool_;
  FewTaps taps_;
  std::vector<std::int32_t> tap_offsets_;
  AlignedBuffer<float> weight_;  // (K, K, C, O)
  AlignedBuffer<float> sum_;     // (K, K, C, O)
  const float* bias_ = nullptr;
};

}  // namespace impart::nn

// ConvPrimitives: oneDNN's convolution on channels-last images, built once and then only executed.
#pragma once

#include <cstddef>
#include <memory>

#include "impart/nn/layer.hpp"
#include "nn/geometry.hpp"

namespace impart::nn {

/// Which of a convolution's primitives to build.
struct ConvBuild {
  bool bias = true;
  bool relu = false;  ///< rectify in the forward pass
  bool backward_data = false;
  bool backward_weights = false;
};

/// Not thread-safe, as a Layer. Images (N, H, W, C), weights and their gradients (O, C, K, K) row-major.
class ConvPrimitives {
 public:
  ConvPrimitives(const ConvGeometry& geometry, const ConvBuild& build, Scratch& scratch);
  ~ConvPrimitives();

  /// Bytes at the start of the scratch that any of the calls below may use.
  [[nodiscard]] std::size_t scratch_bytes() const;
  /// Packs the weights for each primitive. `bias` is kept by reference.
  void load(const float* weight, const float* bias);
  void forward(const float* x, float* y);
  void backward_data(const float* grad_y, float* grad_x);
  /// `grad_bias` may be null when there is no bias.
  void backward_weights(const float* x, const float* grad_y, float* grad_weight, float* grad_bias);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace impart::nn

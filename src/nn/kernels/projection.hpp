// Projection: y = x W' + b for all rows of a batch, and its gradients.
#pragma once

#include <cstdint>
#include <memory>

#include "nn/kernels/convolution.hpp"

namespace impart::nn {

/// A product with weights, as a convolution of images of one pixel.
class Projection {
 public:
  struct Options {
    std::int64_t rows = 0;
    std::int64_t width = 0;    ///< of x (rows, width)
    std::int64_t outputs = 0;  ///< of y (rows, outputs)
    std::int64_t shards = 1;
    bool bias = true;
    bool relu = false;  ///< of y, in forward
    bool data_gradient = false;
    bool weight_gradient = false;
  };

  Projection(const Options& options, Scratch& scratch);

  /// Bytes at the start of the scratch that all directions may use.
  [[nodiscard]] std::size_t scratch_bytes() const { return scratch_bytes_; }
  [[nodiscard]] Work work() const { return work_; }

  /// weight (outputs, width), bias (outputs) or null; as ConvForward::load.
  void load(const float* weight, const float* bias);
  void forward(const float* x, float* y) { forward_->run(x, y); }
  void data_gradient(const float* grad_y, float* grad_x, bool add) { data_->run(grad_y, grad_x, add); }
  void weight_gradient(const float* x, const float* grad_y, float* grad_weight, float* grad_bias) {
    weights_->run(x, grad_y, grad_weight, grad_bias);
  }

 private:
  std::unique_ptr<ConvForward> forward_;
  std::unique_ptr<ConvBackwardData> data_;
  std::unique_ptr<ConvBackwardWeights> weights_;
  std::size_t scratch_bytes_ = 0;
  Work work_;
};

}  // namespace impart::nn

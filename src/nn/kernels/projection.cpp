#include "nn/kernels/projection.hpp"

#include <algorithm>

#include "nn/kernels/gemm_convolution.hpp"

namespace impart::nn {

Projection::Projection(const Options& options, Scratch& scratch) {
  const ConvGeometry g{.batch = options.rows,
                       .channels = options.width,
                       .height = 1,
                       .width = 1,
                       .filters = options.outputs,
                       .out_height = 1,
                       .out_width = 1,
                       .window = {},
                       .shards = options.shards};
  const ConvOptions conv{.bias = options.bias, .relu = options.relu};
  const int directions = (options.data_gradient ? 1 : 0) + (options.weight_gradient ? 1 : 0);
  work_ = {"gemm", g.flops(), directions * g.flops()};
  forward_ = make_gemm_forward(g, conv, scratch);
  scratch_bytes_ = forward_->scratch_bytes();
  if (options.data_gradient) {
    data_ = make_gemm_backward_data(g, conv, scratch);
    scratch_bytes_ = std::max(scratch_bytes_, data_->scratch_bytes());
  }
  if (options.weight_gradient) {
    weights_ = make_gemm_backward_weights(g, conv, scratch);
    scratch_bytes_ = std::max(scratch_bytes_, weights_->scratch_bytes());
  }
}

void Projection::load(const float* weight, const float* bias) {
  forward_->load(weight, bias);
  if (data_) data_->load(weight);
}

}  // namespace impart::nn

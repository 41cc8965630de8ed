// The kernels of kernels.hpp, for the instruction set that the including file is compiled for. The including
// file defines IMPART_KERNEL_TABLE, the name of the function that hands them out. Nothing here may
// instantiate a template of the standard library, for the reason that simd.hpp gives.
#include "nn/kernels/kernel_tables.hpp"
#include "nn/kernels/simd.hpp"

#include "nn/kernels/activation_kernels.inl"
#include "nn/kernels/conv_kernels.inl"
#include "nn/kernels/depthwise_kernels.inl"
#include "nn/kernels/gemm_kernels.inl"
#include "nn/kernels/norm_kernels.inl"
#include "nn/kernels/peak_kernels.inl"
#include "nn/kernels/pool_kernels.inl"

#include "nn/kernels/winograd_transforms.inl"

#include "nn/kernels/winograd_kernels.inl"

#include "nn/kernels/winograd_weights.inl"

namespace impart::nn {

const KernelTable& IMPART_KERNEL_TABLE() {
  static constexpr KernelTable table{.max_pool_forward = max_pool_forward,
                                     .max_pool_backward = max_pool_backward,
                                     .winner_weights = winner_weights,
                                     .winner_data = winner_data,
                                     .few_taps_forward = few_taps_forward,
                                     .few_taps_weights = few_taps_weights,
                                     .tile_rows = kTileRows,
                                     .tile_columns = kTileColumns,
                                     .product = multiply_panels,
                                     .outer_product = multiply_outer_panels,
                                     .transpose = transpose_rows,
                                     .gather_patches = gather_patches,
                                     .pack_outer = pack_outer,
                                     .pack_rows = pack_rows,
                                     .winograd_conv = winograd_conv,
                                     .winograd_weights = winograd_weights,
                                     .winograd_unblock = winograd_unblock,
                                     .norm_measure = norm_measure,
                                     .norm_forward = norm_forward,
                                     .norm_gradient_sums = norm_gradient_sums,
                                     .norm_backward = norm_backward,
                                     .sigmoid = sigmoid_values,
                                     .tanh = tanh_values,
                                     .gelu = gelu_values,
                                     .gelu_backward = gelu_gradients,
                                     .softmax = softmax_row,
                                     .softmax_backward = softmax_row_gradients,
                                     .depthwise_forward = depthwise_forward,
                                     .depthwise_data = depthwise_data,
                                     .depthwise_weights = depthwise_weights,
                                     .peak_operations = 2 * kPeakChains * Vec::kWidth,
                                     .multiply_add_chains = multiply_add_chains};
  return table;
}

}  // namespace impart::nn

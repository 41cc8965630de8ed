// The layers' factories, one for each kind, and what several of them share.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "impart/core/settings.hpp"
#include "impart/core/tensor.hpp"
#include "impart/nn/layer.hpp"
#include "impart/nn/spec.hpp"
#include "nn/kernels/geometry.hpp"

namespace impart::nn {

inline constexpr std::int64_t kMaxKernel = 1024;

/// What a number of channels, features, rows or columns may be.
inline Range extents() { return between(1, static_cast<double>(kMaxExtent)); }
/// What the extents, strides and gaps of a kernel may be.
inline Range kernel_extents() { return between(1, static_cast<double>(kMaxKernel)); }

/// Rows of features: (rows, features).
struct RowShape {
  std::int64_t rows = 1;
  std::int64_t features = 0;
};

/// The shape of a layer's one input. Throws Error (usage) when there are more.
const Shape& only_input(std::span<const Shape> inputs);
/// `shape` as rows of features: (F) is one row, (T, F) are T. Throws Error (usage) when it has another rank.
RowShape row_shape(const Shape& shape);
/// `shape`, which must be (T, F). Throws Error (usage) when it has another rank.
const Shape& sequence_shape(const Shape& shape);
/// `shape` as (C, H, W). Throws Error (usage) when it has another rank.
ImageShape image_shape(const Shape& shape);
/// Extents after `window` with that many channels. Throws Error (usage) when the window is larger than the
/// padded image.
Shape window_output(const Window& window, const ImageShape& input, std::int64_t channels);

/// The window of a "max_pool2d". Throws Error (usage) for bad settings.
Window max_pool_window(const LayerSpec& spec);

/// The `init` setting of a layer with weights.
Init read_init(Settings& settings);
/// The bias that goes with `weight` (outputs, ...).
ParameterSpec bias_of(const ParameterSpec& weight);

/// grad = output > 0 ? grad : 0, backward through a rectifier that a layer has absorbed.
void rectify_gradient(std::span<const float> output, std::span<float> grad);

using MakeLayer = std::unique_ptr<Layer>(Settings& settings, const LayerContext& context);
MakeLayer make_adaptive_avg_pool2d;
MakeLayer make_adaptive_max_pool2d;
MakeLayer make_add;
MakeLayer make_avg_pool2d;
MakeLayer make_batch_norm;
MakeLayer make_concat;
MakeLayer make_conv2d;
MakeLayer make_dense;
MakeLayer make_dropout;
MakeLayer make_embedding;
MakeLayer make_flatten;
MakeLayer make_gelu;
MakeLayer make_global_avg_pool2d;
MakeLayer make_group_norm;
MakeLayer make_layer_norm;
MakeLayer make_leaky_relu;
MakeLayer make_max_pool2d;
MakeLayer make_multi_head_attention;
MakeLayer make_positional_encoding;
MakeLayer make_relu;
MakeLayer make_relu6;
MakeLayer make_sigmoid;
MakeLayer make_softmax;
MakeLayer make_tanh;

}  // namespace impart::nn

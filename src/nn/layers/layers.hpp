// The layers' factories, one for each kind, and what several of them share.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "impart/core/tensor.hpp"
#include "impart/nn/layer.hpp"
#include "impart/nn/spec.hpp"
#include "nn/kernels/geometry.hpp"

namespace impart::nn {

class Settings;

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

/// The window of a "max_pool2d" or "avg_pool2d". Throws Error (usage) for bad settings.
Window read_pool_window(const LayerSpec& spec);

/// The `init` setting of a layer with weights: "he" (default), "he_fan_out", "glorot", "normal" or "uniform".
Init read_init(const Settings& settings);
/// The bias that goes with `weight` (outputs, ...).
ParameterSpec bias_of(const ParameterSpec& weight);

/// grad = output > 0 ? grad : 0, backward through a rectifier that a layer has absorbed.
void rectify_gradient(std::span<const float> output, std::span<float> grad);

std::unique_ptr<Layer> make_conv2d(const LayerSpec& spec);
std::unique_ptr<Layer> make_dense(const LayerSpec& spec);
std::unique_ptr<Layer> make_max_pool2d(const LayerSpec& spec);
std::unique_ptr<Layer> make_avg_pool2d(const LayerSpec& spec);
std::unique_ptr<Layer> make_batch_norm(const LayerSpec& spec);
std::unique_ptr<Layer> make_adaptive_avg_pool2d(const LayerSpec& spec);
std::unique_ptr<Layer> make_adaptive_max_pool2d(const LayerSpec& spec);
std::unique_ptr<Layer> make_global_avg_pool2d(const LayerSpec& spec);
std::unique_ptr<Layer> make_relu(const LayerSpec& spec);
std::unique_ptr<Layer> make_relu6(const LayerSpec& spec);
std::unique_ptr<Layer> make_leaky_relu(const LayerSpec& spec);
std::unique_ptr<Layer> make_gelu(const LayerSpec& spec);
std::unique_ptr<Layer> make_sigmoid(const LayerSpec& spec);
std::unique_ptr<Layer> make_tanh(const LayerSpec& spec);
std::unique_ptr<Layer> make_softmax(const LayerSpec& spec);
std::unique_ptr<Layer> make_layer_norm(const LayerSpec& spec);
std::unique_ptr<Layer> make_group_norm(const LayerSpec& spec);
std::unique_ptr<Layer> make_embedding(const LayerSpec& spec);
std::unique_ptr<Layer> make_positional_encoding(const LayerSpec& spec);
std::unique_ptr<Layer> make_multi_head_attention(const LayerSpec& spec);
/// As make_layer_part.
std::unique_ptr<Layer> make_multi_head_attention_part(const LayerSpec& spec, Part part);
std::unique_ptr<Layer> make_dropout_part(const LayerSpec& spec, Part part);
std::unique_ptr<Layer> make_add(const LayerSpec& spec);
std::unique_ptr<Layer> make_concat(const LayerSpec& spec);
std::unique_ptr<Layer> make_dropout(const LayerSpec& spec);
std::unique_ptr<Layer> make_flatten(const LayerSpec& spec);

}  // namespace impart::nn

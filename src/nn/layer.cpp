#include "impart/nn/layer.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "impart/core/error.hpp"
#include "impart/core/suggest.hpp"
#include "nn/layers/layers.hpp"
#include "nn/settings.hpp"

namespace impart::nn {

namespace {

struct Kind {
  std::string_view name;
  std::unique_ptr<Layer> (*make)(const LayerSpec&);
};

constexpr auto kKinds = std::to_array<Kind>({
    {"conv2d", make_conv2d},
    {"dense", make_dense},
    {"max_pool2d", make_max_pool2d},
    {"avg_pool2d", make_avg_pool2d},
    {"batch_norm", make_batch_norm},
    {"layer_norm", make_layer_norm},
    {"group_norm", make_group_norm},
    {"adaptive_avg_pool2d", make_adaptive_avg_pool2d},
    {"adaptive_max_pool2d", make_adaptive_max_pool2d},
    {"global_avg_pool2d", make_global_avg_pool2d},
    {"relu", make_relu},
    {"relu6", make_relu6},
    {"leaky_relu", make_leaky_relu},
    {"gelu", make_gelu},
    {"sigmoid", make_sigmoid},
    {"tanh", make_tanh},
    {"softmax", make_softmax},
    {"add", make_add},
    {"concat", make_concat},
    {"embedding", make_embedding},
    {"positional_encoding", make_positional_encoding},
    {"multi_head_attention", make_multi_head_attention},
    {"dropout", make_dropout},
    {"flatten", make_flatten},
});

}  // namespace

std::vector<ParameterSpec> Layer::parameters(std::span<const Shape> /*inputs*/) const { return {}; }
bool Layer::absorb(const LayerSpec& /*next*/) { return false; }
void Layer::load(std::span<const std::span<const float>> /*state*/) {}

std::vector<std::string_view> layer_kinds() {
  std::vector<std::string_view> names;
  for (const auto& kind : kKinds) names.push_back(kind.name);
  return names;
}

std::unique_ptr<Layer> make_layer(const LayerSpec& spec) {
  if (spec.maker) return (*spec.maker)(spec);
  for (const auto& kind : kKinds) {
    if (kind.name == spec.kind) return kind.make(spec);
  }
  const auto names = layer_kinds();
  const std::string near = suggestion(spec.kind, names);
  auto error = Error(fmt::format("unknown kind of layer \"{}\"", spec.kind), ErrorKind::kUsage)
                   .expected(fmt::format("one of {}", fmt::join(names, ", ")));
  if (!near.empty()) throw std::move(error).hint(near);
  throw error;
}

std::unique_ptr<Layer> make_layer_part(const LayerSpec& spec, Part part) {
  if (spec.kind == "multi_head_attention") return make_multi_head_attention_part(spec, part);
  if (spec.kind == "dropout") return make_dropout_part(spec, part);
  throw Error(fmt::format("there are no parts of a layer of kind \"{}\"", spec.kind));
}

std::int64_t Window::output_extent(std::int64_t extent) const {
  const std::int64_t room = extent + 2 * padding - reach();
  return room < 0 ? 0 : room / stride + 1;
}

const Shape& only_input(std::span<const Shape> inputs) {
  if (inputs.size() != 1) {
    throw Error("the layer reads one input", ErrorKind::kUsage)
        .got(fmt::format("{} in `from`", inputs.size()));
  }
  return inputs[0];
}

RowShape row_shape(const Shape& shape) {
  if (shape.rank() == 1) return {1, shape[0]};
  if (shape.rank() == 2) return {shape[0], shape[1]};
  throw Error("the input does not fit", ErrorKind::kUsage)
      .expected("a list of features, or a sequence of steps x features")
      .got(shape.str())
      .hint("put a flatten layer before it");
}

const Shape& sequence_shape(const Shape& shape) {
  if (shape.rank() == 2) return shape;
  throw Error("the input does not fit", ErrorKind::kUsage)
      .expected("a sequence of steps x features")
      .got(shape.str())
      .hint("an embedding makes one of a list of indices");
}

ImageShape image_shape(const Shape& shape) {
  if (shape.rank() != 3) {
    throw Error("the input does not fit", ErrorKind::kUsage)
        .expected("an image of channels x height x width")
        .got(shape.str());
  }
  return {shape[0], shape[1], shape[2]};
}

Shape window_output(const Window& window, const ImageShape& input, std::int64_t channels) {
  const auto height = window.output_extent(input.height);
  const auto width = window.output_extent(input.width);
  if (height < 1 || width < 1) {
    throw Error("the window is larger than the image", ErrorKind::kUsage)
        .expected(fmt::format("at least {0}x{0} with padding {1}", window.reach(), window.padding))
        .got(fmt::format("{}x{}", input.height, input.width))
        .hint("lower `kernel`, or raise `padding`");
  }
  return {channels, height, width};
}

void rectify_gradient(std::span<const float> output, std::span<float> grad) {
  const float* y = output.data();
  float* g = grad.data();
  const std::size_t size = grad.size();
  for (std::size_t i = 0; i < size; ++i) {
    const float value = g[i];  // read in any case: no branch to mispredict
    g[i] = y[i] > 0 ? value : 0.0F;
  }
}

Init read_init(const Settings& settings) {
  static constexpr std::array<std::string_view, 5> words{"he", "he_fan_out", "glorot", "normal", "uniform"};
  static constexpr std::array<Init, 5> meanings{Init::kHe, Init::kHeFanOut, Init::kGlorot, Init::kNormal,
                                                Init::kUniform};
  const auto word = settings.word_or("init", words[0], words);
  return meanings.at(static_cast<std::size_t>(std::find(words.begin(), words.end(), word) - words.begin()));
}

ParameterSpec bias_of(const ParameterSpec& weight) {
  const auto init = weight.init == Init::kUniform ? Init::kUniform : Init::kZeros;
  return {"bias", {weight.shape[0]}, StateKind::kParameter, init, weight.fan_in, weight.fan_out};
}

}  // namespace impart::nn

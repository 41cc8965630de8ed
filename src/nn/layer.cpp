#include "impart/nn/layer.hpp"

#include <fmt/format.h>

#include "impart/core/error.hpp"
#include "nn/layers/layers.hpp"

namespace impart::nn {

std::vector<ParameterSpec> Layer::parameters(std::span<const Shape> /*inputs*/) const { return {}; }
bool Layer::absorb(const LayerSpec& /*next*/) { return false; }
void Layer::load(std::span<const std::span<const float>> /*state*/) {}

std::unique_ptr<Layer> make_layer(const LayerSpec& spec) {
  if (spec.maker) return (*spec.maker)(spec);
  return make_layer_part(spec, {});
}

std::unique_ptr<Layer> make_layer_part(const LayerSpec& spec, Part part) {
  if (part.of > 1 && spec.kind != "multi_head_attention" && spec.kind != "dropout") {
    throw Error(fmt::format("there are no parts of a layer of kind \"{}\"", spec.kind));
  }
  const auto& kind = layers().get(spec.kind);
  return read_settings(spec.settings, "", [&](Settings& settings) {
    return kind.make(settings, {.name = spec.name, .part = part});
  });
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

Init read_init(Settings& settings) {
  Init init = Init::kHe;
  settings.choose("init", init,
                  {{"he", Init::kHe},
                   {"he_fan_out", Init::kHeFanOut},
                   {"glorot", Init::kGlorot},
                   {"normal", Init::kNormal},
                   {"uniform", Init::kUniform}},
                  "what the first weights are drawn from; uniform is PyTorch's choice, biases as well");
  return init;
}

ParameterSpec bias_of(const ParameterSpec& weight) {
  const auto init = weight.init == Init::kUniform ? Init::kUniform : Init::kZeros;
  return {"bias", {weight.shape[0]}, StateKind::kParameter, init, weight.fan_in, weight.fan_out};
}

}  // namespace impart::nn

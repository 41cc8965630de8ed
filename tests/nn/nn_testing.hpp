// What the tests of nn share: small models, values, and one layer on its own.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "impart/core/aligned.hpp"
#include "impart/core/rng.hpp"
#include "impart/nn/layer.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/spec.hpp"

namespace impart::nn::testing {

inline std::int64_t whole(int value) { return value; }

inline LayerSpec layer(std::string kind, SettingTable settings = {}, std::string name = "") {
  return {std::move(kind), std::move(name), std::move(settings), {}};
}

inline LayerSpec conv2d(int filters, int kernel, int stride = 1, int padding = 0, bool bias = true) {
  return layer("conv2d", {{"filters", whole(filters)},
                          {"kernel", whole(kernel)},
                          {"stride", whole(stride)},
                          {"padding", whole(padding)},
                          {"bias", bias}});
}
inline LayerSpec dense(int units, bool bias = true) {
  return layer("dense", {{"units", whole(units)}, {"bias", bias}});
}
inline LayerSpec pool(const std::string& kind, int kernel, int stride, int padding = 0) {
  return layer(kind, {{"kernel", whole(kernel)}, {"stride", whole(stride)}, {"padding", whole(padding)}});
}
inline LayerSpec adaptive(const std::string& kind, int size) { return layer(kind, {{"size", whole(size)}}); }
inline LayerSpec attention(int heads, bool causal = false, double dropout = 0) {
  return layer("multi_head_attention", {{"heads", whole(heads)}, {"causal", causal}, {"dropout", dropout}},
               "attention1");
}

inline ModelSpec model(Shape input, int classes, std::vector<LayerSpec> layers) {
  ModelSpec spec{"test", std::move(input), classes, std::move(layers)};
  name_layers(spec);
  return spec;
}

/// The convolutional network of the example deck, 93,322 parameters.
inline ModelSpec digits_cnn() {
  return model({1, 28, 28}, 10,
               {conv2d(32, 3), layer("relu"), pool("max_pool2d", 2, 2), conv2d(64, 3), layer("relu"),
                pool("max_pool2d", 2, 2), conv2d(64, 3), layer("relu"), layer("flatten"), dense(64),
                layer("relu"), dense(10)});
}

inline std::vector<float> normal_values(std::size_t n, std::uint64_t seed, double scale = 1.0) {
  Rng rng(seed, "test");
  std::vector<float> values(n);
  for (float& v : values) v = static_cast<float>(scale * rng.normal());
  return values;
}

/// Different values, `gap` apart and none within gap/2 of zero, in random order: no maximum and no rectifier
/// changes its mind when one of them moves by less than gap/2.
inline std::vector<float> spread_values(std::size_t n, std::uint64_t seed, double gap) {
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i) {
    values[i] = static_cast<float>((static_cast<double>(i) - static_cast<double>(n / 2) + 0.5) * gap);
  }
  Rng(seed, "test").shuffle(std::span<float>(values));
  return values;
}

/// Puts a vector's values where a network's activations lie: on cache lines.
template <class T>
struct OnCacheLines {
  using value_type = T;
  T* allocate(std::size_t n) {
    return static_cast<T*>(::operator new (n * sizeof(T), std::align_val_t{kAlignment}));
  }
  void deallocate(T* p, std::size_t /*n*/) { ::operator delete (p, std::align_val_t{kAlignment}); }
  friend bool operator==(OnCacheLines, OnCacheLines) { return true; }
};
using Values = std::vector<float, OnCacheLines<float>>;

inline double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

/// ||a - b|| / ||b||.
inline double relative_difference(std::span<const float> a, std::span<const float> b) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    difference += d * d;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(difference) / (std::sqrt(norm) + 1e-30);
}

/// What a lone layer is built for, beside its spec and its inputs' shapes.
struct LoneOptions {
  std::int64_t shards = 1;
  bool trainable = true;
  std::vector<LayerSpec> absorbed = {};
  bool need_input_gradient = true;
  Peers peers = {};
};

/// One layer with its values and gradients, without a network around it. Further inputs are those of layers
/// that it absorbs.
struct LoneLayer {
  LoneLayer(const LayerSpec& spec, std::vector<Shape> samples, std::int64_t batch, LoneOptions options = {})
      : layer(make_layer(spec)), differentiable(spec.kind != "embedding") {
    if (!differentiable) options.need_input_gradient = false;
    for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(batch); ++i) ids.push_back(100 + i);
    pass = {.training = true, .seed = 5, .step = 3, .sample_ids = ids};
    const auto own_inputs = options.absorbed.empty() ? samples.size() : std::size_t{1};
    for (const auto& tensor : layer->parameters(std::span(samples).first(own_inputs))) {
      const auto size = static_cast<std::size_t>(tensor.shape.elements());
      tensors.push_back(tensor);
      state.push_back(normal_values(size, 17 + tensors.size(), 0.5));
      if (tensor.name == "running_var") {
        for (float& v : state.back()) v = 0.5F + std::abs(v);
      }
      gradients.emplace_back(size);
    }
    for (const auto& next : options.absorbed) {
      if (!layer->absorb(next)) throw std::logic_error(spec.kind + " does not absorb " + next.kind);
    }
    output.resize(static_cast<std::size_t>(layer->output_shape(samples).with_batch(batch).elements()));
    Setup setup{.inputs = {},
                .shards = options.shards,
                .training = true,
                .trainable = options.trainable,
                .need_input_gradient = std::vector<bool>(samples.size(), options.need_input_gradient),
                .peers = options.peers,
                .scratch = &scratch,
                .kept = &kept};
    for (const auto& sample : samples) {
      setup.inputs.push_back(sample.with_batch(batch));
      inputs.emplace_back(static_cast<std::size_t>(setup.inputs.back().elements()));
      grad_inputs.emplace_back(options.need_input_gradient ? inputs.back().size() : 0);
    }
    layer->setup(setup);
    scratch.allocate();
    for (auto* each : kept) {
      kept_memory.emplace_back(each->bytes());
      each->place(kept_memory.back().data());
    }
  }
  LoneLayer(const LayerSpec& spec, const Shape& sample, std::int64_t batch, LoneOptions options = {})
      : LoneLayer(spec, std::vector{sample}, batch, std::move(options)) {}

  /// The first input, for layers that have one.
  Values& input() { return inputs[0]; }
  Values& grad_input() { return grad_inputs[0]; }

  std::span<const float> forward() {
    views.assign(state.begin(), state.end());
    input_views.assign(inputs.begin(), inputs.end());
    layer->load(views);
    layer->forward(pass, input_views, output);
    return output;
  }

  /// After forward, from d(loss)/d(output). `add`: to what the inputs' gradients hold.
  void backward(Values grad_output, bool add = false) {
    std::vector<std::span<float>> to(gradients.begin(), gradients.end());
    std::vector<InputGradient> grads;
    for (auto& grad : grad_inputs) grads.push_back({grad, add});
    layer->backward(pass, {input_views, output, grad_output, grads, to});
  }

  std::vector<std::uint64_t> ids;
  Pass pass;
  Scratch scratch;
  std::vector<KeptBytes*> kept;
  std::vector<AlignedBuffer<std::byte>> kept_memory;
  std::unique_ptr<Layer> layer;
  bool differentiable;  // with respect to its input
  std::vector<ParameterSpec> tensors;
  std::vector<std::vector<float>> state;
  std::vector<std::vector<float>> gradients;
  std::vector<std::span<const float>> views, input_views;
  std::vector<Values> inputs, grad_inputs;
  Values output;
};

}  // namespace impart::nn::testing

// The tensors of a model and their initial values.
#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"
#include "impart/nn/layer.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/part_network.hpp"
#include "impart/nn/spec.hpp"

namespace impart::nn {

namespace {

struct LayerTensors {
  std::string layer;
  std::vector<ParameterSpec> tensors;
};

std::vector<LayerTensors> tensors_of(const ModelSpec& given) {
  ModelSpec spec = given;
  name_layers(spec);
  auto tensors = model_tensors(spec);
  std::vector<LayerTensors> all;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    all.push_back({spec.layers[i].name, std::move(tensors[i])});
  }
  return all;
}

}  // namespace

void initialise(const ParameterSpec& tensor, std::string_view full_name, std::uint64_t seed,
                std::span<float> values) {
  Rng rng(seed, "init", name_id(full_name));
  const auto normal = [&](double deviation) {
    for (float& v : values) v = static_cast<float>(deviation * rng.normal());
  };
  const auto uniform = [&](double bound) {
    for (float& v : values) v = static_cast<float>(bound * (2.0 * rng.uniform_double() - 1.0));
  };
  const auto fan_in = static_cast<double>(tensor.fan_in);
  const auto fan_out = static_cast<double>(tensor.fan_out);
  switch (tensor.init) {
    case Init::kHe:
      normal(std::sqrt(2.0 / fan_in));
      break;
    case Init::kHeFanOut:
      normal(std::sqrt(2.0 / fan_out));
      break;
    case Init::kGlorot:
      uniform(std::sqrt(6.0 / (fan_in + fan_out)));
      break;
    case Init::kNormal:
      normal(0.01);
      break;
    case Init::kUniform:
      uniform(std::sqrt(1.0 / fan_in));
      break;
    case Init::kZeros:
      std::fill(values.begin(), values.end(), 0.0F);
      break;
    case Init::kOnes:
      std::fill(values.begin(), values.end(), 1.0F);
      break;
  }
}

namespace {

void fill_layer(const LayerTensors& layer, std::uint64_t seed, StateDict& state) {
  for (const auto& tensor : layer.tensors) {
    const std::string name = layer.layer + "." + tensor.name;
    const auto values = state.values(name);
    if (static_cast<std::int64_t>(values.size()) != tensor.shape.elements()) {
      throw Error("'" + name + "' has another size in the state than in the model")
          .expected(tensor.shape.str())
          .got(std::to_string(values.size()) + " values");
    }
    initialise(tensor, name, seed, values);
  }
}

}  // namespace

StateLayoutPtr state_layout(const ModelSpec& spec) {
  std::vector<StateEntry> entries;
  for (const auto& layer : tensors_of(spec)) {
    for (const auto& tensor : layer.tensors) {
      entries.push_back({layer.layer + "." + tensor.name, tensor.shape, tensor.kind, 0});
    }
  }
  return std::make_shared<const StateLayout>(std::move(entries));
}

std::vector<ParameterSpec> part_tensors(const ModelSpec& spec) {
  std::vector<ParameterSpec> parts;
  for (const auto& layer : tensors_of(spec)) {
    for (auto tensor : layer.tensors) {
      tensor.name = layer.layer + "." + tensor.name;
      parts.push_back(std::move(tensor));
    }
  }
  return parts;
}

StateDict initial_state(const ModelSpec& spec, std::uint64_t seed) {
  StateDict state(state_layout(spec));
  for (const auto& layer : tensors_of(spec)) fill_layer(layer, seed, state);
  return state;
}

void initialise_layer(const ModelSpec& spec, const std::string& layer, std::uint64_t seed, StateDict& state) {
  for (const auto& tensors : tensors_of(spec)) {
    if (tensors.layer == layer) {
      fill_layer(tensors, seed, state);
      return;
    }
  }
  throw Error("the model has no layer '" + layer + "'");
}

}  // namespace impart::nn

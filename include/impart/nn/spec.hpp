// ModelSpec: what a network is made of, as plain data; stored in every checkpoint as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "impart/core/tensor.hpp"

namespace impart::nn {

using SettingValue = std::variant<bool, std::int64_t, double, std::string>;

/// One layer: its kind ("conv2d"), its name ("conv1"; chosen by `name_layers` when empty) and its settings in
/// the order of the deck.
struct LayerSpec {
  std::string kind;
  std::string name;
  std::vector<std::pair<std::string, SettingValue>> settings;

  friend bool operator==(const LayerSpec&, const LayerSpec&) = default;
};

/// A chain of layers from `input` (one sample: (C, H, W) or (features)) to `classes` outputs.
struct ModelSpec {
  std::string name;
  Shape input;
  int classes = 0;
  std::vector<LayerSpec> layers;

  friend bool operator==(const ModelSpec&, const ModelSpec&) = default;
};

/// Gives each nameless layer its kind's short name and a count from 1: conv1, relu1, conv2, dense1 ...
void name_layers(ModelSpec& spec);

/// JSON: {"name", "input": [..], "classes", "layers": [{"kind", "name", <settings>}]}. Reading throws Error
/// on anything else.
std::string to_json(const ModelSpec& spec);
ModelSpec model_spec_from_json(std::string_view text);

/// Checks kinds, settings and shapes through every layer, the final shape against `classes`, and returns the
/// shape of each layer's output, without making a network. Throws Error (usage) that names the layer, what
/// came, what it wants.
std::vector<Shape> check_model(const ModelSpec& spec);

/// Name of the last layer that has parameters: the head, which a transfer replaces. REQUIRES: check_model
/// passes.
std::string head_of(const ModelSpec& spec);

}  // namespace impart::nn

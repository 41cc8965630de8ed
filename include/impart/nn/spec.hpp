// ModelSpec: what a network is made of, as plain data; stored in every checkpoint as JSON.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "impart/core/tensor.hpp"

namespace impart::nn {

using SettingValue = std::variant<bool, std::int64_t, double, std::string, std::vector<std::int64_t>>;
/// Names and values in the order of the deck.
using SettingList = std::vector<std::pair<std::string, SettingValue>>;

/// Name under which layers read the model's input.
inline constexpr std::string_view kModelInput = "input";

/// As ModelSpec::classes: any output will do. Of a network that only makes part of an objective.
inline constexpr int kAnyOutput = -1;

class Layer;
struct LayerSpec;
using LayerMaker = std::function<std::unique_ptr<Layer>(const LayerSpec& spec)>;

/// One layer: its kind ("conv2d"), its name ("conv1"; chosen by `name_layers` when empty), its settings in
/// the order of the deck, and the layers whose outputs it reads.
struct LayerSpec {
  std::string kind;
  std::string name;
  SettingList settings;
  std::vector<std::string> from = {};  ///< earlier layers, or "input"; empty: the layer before this one
  /// Makes the layer in place of what `make_layer` knows of its kind: another module's layer. Not in the
  /// JSON.
  std::shared_ptr<const LayerMaker> maker = {};

  friend bool operator==(const LayerSpec&, const LayerSpec&) = default;
};

/// A graph of layers, each after those that it reads, from `input` (one sample: (C, H, W) or (features)) to
/// the last layer's output: `classes` values, or rows of `classes` values (a sequence).
struct ModelSpec {
  std::string name;
  Shape input;
  int classes = 0;
  std::vector<LayerSpec> layers;

  friend bool operator==(const ModelSpec&, const ModelSpec&) = default;
};

/// True for a batch_norm with `sync`.
bool is_synced(const LayerSpec& layer);

/// Gives each nameless layer its kind's short name and a count from 1: conv1, relu1, conv2, dense1 ...
void name_layers(ModelSpec& spec);

/// For each layer, which layers it reads: their positions, -1 for the model's input. REQUIRES: names are
/// given. Throws Error (usage) for a name that is not that of an earlier layer.
std::vector<std::vector<int>> layer_inputs(const ModelSpec& spec);

/// JSON: {"name", "input": [..], "classes", "layers": [{"kind", "name", "from": [..], <settings>}]}; "from"
/// is left out when it is empty. Reading throws Error on anything else.
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

// Zoo: models known by name, so that a deck or a benchmark can ask for one without listing its layers.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "impart/core/registry.hpp"
#include "impart/nn/spec.hpp"

namespace impart::nn {

/// A model as its maker leaves it.
struct ZooModel {
  Shape input;  ///< the one it was made for, when nobody asks for another
  std::vector<LayerSpec> layers = {};
  /// What makes the model what its name says, as make_objective knows it.
  std::string_view objective = "cross_entropy";

  /// Appends a layer and returns its name.
  std::string add(std::string kind, std::string name, SettingTable settings = {},
                  std::vector<std::string> from = {}) {
    layers.push_back({std::move(kind), std::move(name), std::move(settings), std::move(from)});
    return layers.back().name;
  }
};

/// The models, each with the name of its settings in decks, `arch`, and made for a number of classes. Their
/// layers have names.
///
/// Tensors of "resnet18", "resnet50", "vgg16", "vgg16_bn" and "mobilenet_v2" have torchvision's names, shapes,
/// order and initial distributions; num_batches_tracked is left out. Those of "transformer" have the names of
/// PyTorch's TransformerEncoder.
const Registry<ZooModel, int>& zoo();

/// The model of that name. `input` may be empty: then it has the one that it was made for. Throws Error (usage)
/// for an unknown name or setting, with the nearest known one, and for values out of range; shapes are
/// check_model's matter.
ModelSpec zoo_model(std::string_view name, const Shape& input, int classes,
                    const SettingTable& settings = {});

/// The model that a benchmark of that name measures: 10 classes, the cifar stem where there are stems.
ModelSpec zoo_benchmark(std::string_view name);

/// ZooModel::objective of the model of that name.
std::string_view zoo_objective(std::string_view name);

}  // namespace impart::nn

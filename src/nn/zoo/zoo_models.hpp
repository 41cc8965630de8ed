// What the models of the zoo are made of.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "impart/nn/spec.hpp"
#include "nn/settings.hpp"

namespace impart::nn {

/// A model as its maker leaves it.
struct ZooModel {
  Shape input;  ///< the one it was made for, when nobody asks for another
  std::vector<LayerSpec> layers;

  /// Appends a layer and returns its name.
  std::string add(std::string kind, std::string name, SettingList settings = {},
                  std::vector<std::string> from = {}) {
    layers.push_back({std::move(kind), std::move(name), std::move(settings), std::move(from)});
    return layers.back().name;
  }
};

ZooModel resnet18(const Settings& settings, int classes);
ZooModel resnet50(const Settings& settings, int classes);
ZooModel vgg16(const Settings& settings, int classes);
ZooModel vgg16_bn(const Settings& settings, int classes);
ZooModel mobilenet_v2(const Settings& settings, int classes);
ZooModel transformer(const Settings& settings, int classes);

}  // namespace impart::nn

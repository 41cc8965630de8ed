// A small network with every kind of state, for tests of training.
#pragma once

#include "impart/nn/spec.hpp"

namespace impart::testing_support {

/// 1x8x8 images, convolution, batch norm (over ranks with `sync`), dropout, two dense layers.
inline nn::ModelSpec small_net(int classes = 4, bool sync = false) {
  nn::ModelSpec spec{"small", Shape{1, 8, 8}, classes, {}};
  spec.layers = {
      {"conv2d", "", {{"filters", std::int64_t{6}}, {"kernel", std::int64_t{3}}}},
      {"batch_norm", "", {{"sync", sync}}},
      {"relu", "", {}},
      {"max_pool2d", "", {{"kernel", std::int64_t{2}}}},
      {"flatten", "", {}},
      {"dense", "", {{"units", std::int64_t{12}}}},
      {"relu", "", {}},
      {"dropout", "", {{"rate", 0.25}}},
      {"dense", "", {{"units", std::int64_t{classes}}}},
  };
  nn::name_layers(spec);
  return spec;
}

}  // namespace impart::testing_support

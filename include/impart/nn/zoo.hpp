// Zoo: models known by name, so that a deck or a benchmark can ask for one without listing its layers.
#pragma once

#include <string_view>
#include <vector>

#include "impart/nn/spec.hpp"

namespace impart::nn {

/// The names that `zoo_model` knows.
std::vector<std::string_view> zoo_names();

/// The model of that name, with its layers named. "cnn": three 3x3 convolutions without padding (32, 64, 64
/// filters) with max pooling between, dense 64, dense `classes`; 93,322 parameters for (1, 28, 28) and 10
/// classes. Throws Error (usage) for an unknown name, with the nearest known one.
ModelSpec zoo_model(std::string_view name, const Shape& input, int classes);

}  // namespace impart::nn

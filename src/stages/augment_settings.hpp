// `augment`: the random changes of a stage's training samples.
#pragma once

#include <vector>

#include "impart/data/augment.hpp"
#include "stages/toml_reader.hpp"

namespace impart::stages {

/// Reads the key `augment` of a stage: a list of tables. What is wrong becomes a problem.
std::vector<data::AugmentationPtr> read_augment(TableReader& table);

}  // namespace impart::stages

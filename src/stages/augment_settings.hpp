// `augment`: the random changes of a stage's training samples.
#pragma once

#include <vector>

#include "impart/core/settings.hpp"
#include "impart/data/augment.hpp"

namespace impart::stages {

/// Reads the key `augment` of a stage: a list of tables. What is wrong becomes a problem.
std::vector<data::Augmentation> read_augment(Settings& table);

}  // namespace impart::stages

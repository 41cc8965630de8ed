// How many ranks a stage has, and may have.
#pragma once

#include <string>
#include <string_view>

#include "impart/stages/deck.hpp"
#include "impart/stages/stage.hpp"

namespace impart::stages {

/// The number of ranks that the setting `ranks` of a stage means: a part below 1 of all, or a number of them;
/// 0 for 0. The part of a few ranks is at least one. A stage that has a mesh and does not say gets all.
int wanted_ranks(const Stage& stage, int ranks, int shards);

/// True when a stage has a tensor axis, so that not all ranks need be of the data axis.
bool splits_tensors(const Deck& deck);

/// Why so many ranks cannot share a batch of `shards`, and that `setting` may be changed; else empty.
std::string why_not_ranks(int ranks, int shards, std::string_view setting);

}  // namespace impart::stages

// Which stages run at the same time, and on how many ranks each.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "impart/stages/deck.hpp"

namespace impart::stages {

/// A stage that could start now.
struct Candidate {
  std::size_t stage = 0;
  double cost = 0;  ///< core-seconds, about; 0: too little to be worth ranks of its own
  int ranks = 0;    ///< that it must have; 0: as many as suit its cost
  int least = 1;    ///< that can run it, of those that suit its cost
};

/// Ranks that run stages one after another, beside other groups. Groups take ranks in their order.
struct RankGroup {
  int ranks = 1;
  std::vector<std::size_t> stages;
};

/// Deals `ranks` ranks to stages that do not depend on each other, so that all end soon: candidates that say
/// how many ranks they want get those; the others' groups are of equal size, and are as many as do not take
/// longer than one after another on all ranks (longest first, Graham 1969). `shards`: a group's size must be
/// allowed for it. What is not in the result waits; the first candidate, in the order given, is never left
/// without a group for long: it is the only one when it costs little. REQUIRES: candidates are not empty; no
/// candidate wants more than `ranks`, nor needs more than the shards allow.
std::vector<RankGroup> deal_ranks(const std::vector<Candidate>& candidates, int ranks, int shards);

/// The number of ranks that the setting `ranks` of a stage means: a part below 1 of all, or a number of them;
/// 0 for 0. The part of a few ranks is at least one. A stage that has a mesh and does not say gets all.
int wanted_ranks(const StageSettings& stage, int ranks, int shards);

/// True when a stage has a tensor axis, so that not all ranks need be of the data axis.
bool splits_tensors(const Deck& deck);

/// Why so many ranks cannot share a batch of `shards`, and that `setting` may be changed; else empty.
std::string why_not_ranks(int ranks, int shards, std::string_view setting);

}  // namespace impart::stages

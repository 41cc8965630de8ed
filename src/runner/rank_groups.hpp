// Which stages run at the same time, and on how many ranks each.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "impart/stages/deck.hpp"

namespace impart::runner {

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

}  // namespace impart::runner

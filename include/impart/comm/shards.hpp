// How a batch's shards are spread over ranks.
#pragma once

#include <vector>

#include "impart/core/summation_tree.hpp"

namespace impart::comm {

/// Rank counts over which `shards` can be spread: the divisors.
std::vector<int> allowed_rank_counts(int shards);

/// The largest of them that is at most `limit`: how many of a rank's threads can share its shards.
int largest_rank_count(int shards, int limit);

/// Throws Error (usage), which lists the allowed counts, unless `ranks` is one of them.
void check_rank_count(int ranks, int shards);

/// REQUIRES: check_rank_count(ranks, shards) passes.
ShardRange shards_of_rank(int rank, int ranks, int shards);

}  // namespace impart::comm

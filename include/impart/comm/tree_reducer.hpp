// TreeReducer: sums of gradients whose bits do not depend on the number of ranks.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "impart/comm/comm.hpp"

namespace impart::comm {

/// The slice [begin, end) of the shards that one rank owns.
struct ShardRange {
  int begin = 0;
  int end = 0;
  [[nodiscard]] int size() const noexcept { return end - begin; }
};

/// Rank counts over which `shards` can be spread: the powers of two that divide it.
std::vector<int> allowed_rank_counts(int shards);

/// The largest of them that is at most `limit`: how many of a rank's threads can share its shards.
int largest_rank_count(int shards, int limit);

/// Throws Error (usage), which lists the allowed counts, unless `ranks` is one of them.
void check_rank_count(int ranks, int shards);

/// REQUIRES: check_rank_count(ranks, shards) passes.
ShardRange shards_of_rank(int rank, int ranks, int shards);

/// How many arrays `sum_shards` needs for the partial sums of `count` neighbouring shards.
int tree_depth(int count);

/// Sums the results of neighbouring shards [range.begin, range.end) in the fixed tree: a block of even size
/// is the sum of its halves, a block of odd size the sum of its members from left to right. `compute(shard,
/// out)` fills `out`; the sum is left in `scratch[0]`. REQUIRES: scratch.size() >= tree_depth(range.size()),
/// equal lengths.
template <class T = float>
void sum_shards(ShardRange range, std::type_identity_t<std::span<const std::span<T>>> scratch,
                const std::type_identity_t<std::function<void(int shard, std::span<T> out)>>& compute);

/// The upper part of the same tree, between ranks: recursive halving then doubling (Rabenseifner 2004;
/// Thakur, Rabenseifner, Gropp 2005). Neighbouring ranks meet first, so that the sum of a rank's block of
/// shards meets the block beside it: the tree of `sum_shards` over all shards, whatever the number of ranks.
///
/// REQUIRES: comm.size() is a power of two. Keeps scratch for the largest length it has seen.
template <class T>
class TreeReducer {
 public:
  explicit TreeReducer(const Comm& comm);  ///< borrows `comm`

  /// Sums `values` over the ranks, in place, on every rank. Any length, the same on all ranks.
  void sum_in_place(std::span<T> values);

 private:
  const Comm& comm_;
  std::vector<T> scratch_;
};

}  // namespace impart::comm

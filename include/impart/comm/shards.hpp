// Shards: how a batch's shards are spread over ranks, and the one order in which their results are summed.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <type_traits>
#include <vector>

namespace impart::comm {

/// The slice [begin, end) of the shards that one rank owns.
struct ShardRange {
  int begin = 0;
  int end = 0;
  [[nodiscard]] int size() const noexcept { return end - begin; }
  friend bool operator==(const ShardRange&, const ShardRange&) = default;
};

/// Rank counts over which `shards` can be spread: the divisors.
std::vector<int> allowed_rank_counts(int shards);

/// The largest of them that is at most `limit`: how many of a rank's threads can share its shards.
int largest_rank_count(int shards, int limit);

/// Throws Error (usage), which lists the allowed counts, unless `ranks` is one of them.
void check_rank_count(int ranks, int shards);

/// REQUIRES: check_rank_count(ranks, shards) passes.
ShardRange shards_of_rank(int rank, int ranks, int shards);

// The fixed tree over all shards of a batch: a block of even size is the sum of its halves, a block of odd
// size the sum of its members from left to right. Its sums can be made on a stack, shard after shard: each
// shard's result is pushed, and as often as `folds_after` says the top is added to what lies under it.
//
// Who has only a range of the shards does the same, and is left with the range's partial sums: the largest
// parts of the tree (of an odd block, those that begin with it) that lie in the range. Additions between
// partial sums of neighbouring ranges complete the tree. So its bits do not depend on how many share it.

/// How often the top of the stack is added to what lies under it, once `shard` is on it.
/// REQUIRES: `range` holds `shard`, and lies in [0, shards).
int folds_after(int shard, ShardRange range, int shards);

/// What the stack holds after all of `range`, from the bottom to the top.
std::vector<ShardRange> partial_sums(ShardRange range, int shards);

/// The most that the stack holds at once.
int stack_depth(ShardRange range, int shards);

/// One step between partial sums, given by their numbers: values[into] += values[from].
struct Addition {
  std::size_t into = 0;
  std::size_t from = 0;
};

/// What makes of the partial sums of neighbouring ranges, in their order, those of the whole range; each is
/// left where the first of its parts was. All `shards` together are a single sum, left in the first part.
std::vector<Addition> additions(std::span<const ShardRange> parts, int shards);

/// Which of the `parts` hold the partial sums of the whole range when all `additions` are done.
std::vector<std::size_t> left_after_additions(std::span<const ShardRange> parts, int shards);

/// Adds up the `parts` of those who have `ranges`, neighbours in their order, and returns what is left: the
/// partial sums of the whole range.
template <class T>
std::vector<std::span<T>> join_parts(std::span<const ShardRange> ranges, int shards,
                                     const std::vector<std::span<T>>& parts);

/// Sums the results of the shards in `range`. `compute(shard, out)` fills `out`, shard after shard; the
/// range's partial sums are left in `stack`. REQUIRES: stack.size() >= stack_depth(range, shards), equal
/// lengths.
template <class T = float>
void sum_shards(ShardRange range, int shards, std::type_identity_t<std::span<const std::span<T>>> stack,
                const std::type_identity_t<std::function<void(int shard, std::span<T> out)>>& compute);

}  // namespace impart::comm

// The one order in which the results of a batch's shards are summed, whoever has them: threads, ranks, kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <type_traits>
#include <vector>

namespace impart {

/// A slice [begin, end) of the shards.
struct ShardRange {
  int begin = 0;
  int end = 0;
  [[nodiscard]] int size() const noexcept { return end - begin; }
  friend bool operator==(const ShardRange&, const ShardRange&) = default;
};

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

/// Sums equal arrays, one a shard, of shards whose number is a power of two: ((s0 + s1) + (s2 + s3)) + ... in
/// memory of the caller's.
class ShardTree {
 public:
  /// Floats that `partial` must have room for.
  [[nodiscard]] static std::int64_t partial_floats(std::int64_t shards, std::int64_t size);

  /// The sum ends up in `total` (size). REQUIRES: a power of two of shards are put.
  ShardTree(std::int64_t size, float* total, float* partial)
      : size_(size), total_(total), partial_(partial) {}

  /// Where the values of the next shard are to be written.
  [[nodiscard]] float* next() { return level(waiting_); }
  /// Takes what was written there.
  void put();

 private:
  [[nodiscard]] float* level(std::int64_t k) { return k == 0 ? total_ : partial_ + (k - 1) * size_; }

  std::int64_t size_;
  float* total_;
  float* partial_;
  int done_ = 0;
  std::int64_t waiting_ = 0;  // partial sums that no equal one has been added to yet
};

/// The same sums of `arrays` that are all there, `size` values each: the total is left in the first.
template <class T>
void sum_in_tree(std::span<T> arrays, std::size_t size) {
  for (std::size_t distance = size; distance < arrays.size(); distance *= 2) {
    for (std::size_t i = 0; i < arrays.size(); i += 2 * distance) {
      for (std::size_t k = i; k < i + size; ++k) arrays[k] += arrays[k + distance];
    }
  }
}

}  // namespace impart

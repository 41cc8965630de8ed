// ShardTree: sums over the shards of a batch, in the order in which shards computed one by one are added.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace impart::nn {

/// Sums equal arrays, one a shard, in comm::sum_shards' tree: ((s0 + s1) + (s2 + s3)) + ...
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
  std::int64_t done_ = 0;
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

}  // namespace impart::nn

// ShardTree: sums over the shards of a batch, in the order in which shards computed one by one are added.
#pragma once

#include <cstdint>

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

}  // namespace impart::nn

#include "impart/nn/shard_tree.hpp"

#include <bit>

namespace impart::nn {

std::int64_t ShardTree::partial_floats(std::int64_t shards, std::int64_t size) {
  return size * (std::bit_width(static_cast<std::uint64_t>(shards)) - 1);
}

void ShardTree::put() {
  ++waiting_;
  ++done_;
  for (std::int64_t block = done_; block % 2 == 0; block /= 2) {
    --waiting_;
    float* left = level(waiting_ - 1);
    const float* right = level(waiting_);
    for (std::int64_t i = 0; i < size_; ++i) left[i] += right[i];
  }
}

}  // namespace impart::nn

#include "impart/comm/tree_reducer.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"

namespace impart::comm {
namespace {

/// Magnitudes from 1e-6 to 1e6, so that almost every other order of summation rounds otherwise.
template <class T>
T value_of(int shard, std::size_t i) {
  Rng rng(1, "tree", i, static_cast<std::uint64_t>(shard));
  return static_cast<T>(rng.normal() * std::pow(10.0, 12 * rng.uniform_double() - 6));
}

/// The tree of the contract, over one element: even blocks are the sum of their halves, odd ones go left to
/// right.
template <class T>
T tree_sum(int begin, int end, std::size_t i) {
  const int count = end - begin;
  if (count % 2 == 0)
    return tree_sum<T>(begin, begin + count / 2, i) + tree_sum<T>(begin + count / 2, end, i);
  T sum = value_of<T>(begin, i);
  for (int shard = begin + 1; shard < end; ++shard) sum += value_of<T>(shard, i);
  return sum;
}

template <class T>
T left_to_right(int count, std::size_t i) {
  T sum = value_of<T>(0, i);
  for (int shard = 1; shard < count; ++shard) sum += value_of<T>(shard, i);
  return sum;
}

/// Bits, so that -0 and 0 differ.
template <class T>
bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// sum_shards over [range.begin, range.end), with exactly the scratch that tree_depth promises to be enough.
std::vector<float> shard_sums(ShardRange range, std::size_t length) {
  std::vector<std::vector<float>> memory(
      static_cast<std::size_t>(tree_depth(range.size())),
      std::vector<float>(length, 1e30F));  // must be overwritten, not added to
  std::vector<std::span<float>> scratch(memory.begin(), memory.end());
  int next = range.begin;
  sum_shards(range, scratch, [&](int shard, std::span<float> out) {
    EXPECT_EQ(shard, next++) << "each shard once, in order";
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = value_of<float>(shard, i);
  });
  EXPECT_EQ(next, range.end);
  return memory[0];
}

constexpr std::size_t kLengths[] = {0, 1, 2, 3, 7, 64, 1000, 4097, 5};

template <class T>
class TreeReducerOf : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(TreeReducerOf, Types);

TYPED_TEST(TreeReducerOf, IsTheSerialTreeBitForBit) {
  const auto world = Comm::world();
  TreeReducer<TypeParam> reducer(world);
  std::size_t other_order = 0;
  for (const std::size_t length : kLengths) {
    std::vector<TypeParam> values(length);
    for (std::size_t i = 0; i < length; ++i) values[i] = value_of<TypeParam>(world.rank(), i);
    reducer.sum_in_place(values);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < length; ++i) {
      if (!same_bits(values[i], tree_sum<TypeParam>(0, world.size(), i))) ++wrong;
      if (!same_bits(values[i], left_to_right<TypeParam>(world.size(), i))) ++other_order;
    }
    EXPECT_EQ(wrong, 0U) << "length " << length;
  }
  // Two values have one order only; with more, the test must be able to tell orders apart.
  EXPECT_EQ(other_order > 100, world.size() > 2) << other_order;
}

TEST(TreeReducer, ShardsAndRanksTogetherAreOneTree) {
  const auto world = Comm::world();
  TreeReducer<float> reducer(world);
  for (const int shards : {8, 16, 24, 40}) {
    for (const std::size_t length : kLengths) {
      auto values = shard_sums(shards_of_rank(world.rank(), world.size(), shards), length);
      reducer.sum_in_place(values);
      std::size_t wrong = 0;
      std::size_t other_order = 0;
      for (std::size_t i = 0; i < length; ++i) {
        if (!same_bits(values[i], tree_sum<float>(0, shards, i))) ++wrong;
        if (!same_bits(values[i], left_to_right<float>(shards, i))) ++other_order;
      }
      EXPECT_EQ(wrong, 0U) << shards << " shards, length " << length;
      if (length >= 64) {
        EXPECT_GT(other_order, length / 10) << shards << " shards, length " << length;
      }
    }
  }
}

TEST(SumShards, IsTheTreeOfItsContract) {
  for (int shards = 1; shards <= 16; ++shards) {
    const auto sums = shard_sums({0, shards}, 100);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      ASSERT_TRUE(same_bits(sums[i], tree_sum<float>(0, shards, i))) << shards << " shards, element " << i;
    }
  }
  const auto block = shard_sums({6, 9}, 10);
  for (std::size_t i = 0; i < block.size(); ++i) EXPECT_TRUE(same_bits(block[i], tree_sum<float>(6, 9, i)));
}

TEST(RankCount, IsAPowerOfTwoThatDividesTheShards) {
  EXPECT_EQ(allowed_rank_counts(8), (std::vector<int>{1, 2, 4, 8}));
  EXPECT_EQ(allowed_rank_counts(12), (std::vector<int>{1, 2, 4}));
  EXPECT_EQ(allowed_rank_counts(7), (std::vector<int>{1}));
  for (const int ranks : {1, 2, 4, 8}) EXPECT_NO_THROW(check_rank_count(ranks, 8));
  for (const int ranks : {0, 3, 5, 6, 16}) EXPECT_THROW(check_rank_count(ranks, 8), Error) << ranks;
  try {
    check_rank_count(3, 8);
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(),
                 "ranks: this number of ranks cannot share the batch: expected a power of two that divides 8 "
                 "shards: 1, 2, 4, 8, got 3 (change `mpirun -n`, or `shards` in [run])");
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
  }
}

TEST(RankCount, ShardsAreSharedWithoutGaps) {
  for (const int ranks : allowed_rank_counts(24)) {
    int next = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const auto range = shards_of_rank(rank, ranks, 24);
      EXPECT_EQ(range.begin, next);
      EXPECT_EQ(range.size(), 24 / ranks);
      next = range.end;
    }
    EXPECT_EQ(next, 24);
  }
}

}  // namespace
}  // namespace impart::comm

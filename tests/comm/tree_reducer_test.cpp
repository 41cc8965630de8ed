#include "impart/comm/tree_reducer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
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

/// The partial sums that sum_shards leaves of the range, with exactly the stack that stack_depth promises to
/// be enough.
std::vector<std::vector<float>> shard_sums(ShardRange range, int shards, std::size_t length) {
  std::vector<std::vector<float>> memory(
      static_cast<std::size_t>(stack_depth(range, shards)),
      std::vector<float>(length, 1e30F));  // must be overwritten, not added to
  std::vector<std::span<float>> stack(memory.begin(), memory.end());
  int next = range.begin;
  sum_shards(range, shards, stack, [&](int shard, std::span<float> out) {
    EXPECT_EQ(shard, next++) << "each shard once, in order";
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = value_of<float>(shard, i);
  });
  EXPECT_EQ(next, range.end);
  memory.resize(partial_sums(range, shards).size());
  return memory;
}

constexpr std::size_t kLengths[] = {0, 1, 2, 3, 7, 64, 1000, 4097, 17000, 34000, 5};

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
  // Two values have one order only, three are added from left to right; with more, the test must be able to
  // tell orders apart.
  EXPECT_EQ(other_order > 100, world.size() > 3) << other_order;
}

TEST(TreeReducer, ShardsAndRanksTogetherAreOneTree) {
  const auto world = Comm::world();
  int tested = 0;
  for (const int shards : {6, 8, 12, 16, 18, 24, 36, 40}) {
    if (shards % world.size() != 0) continue;
    ++tested;
    TreeReducer<float> reducer(world, shards, tested % 2 == 0);
    for (const std::size_t length : kLengths) {
      auto values = shard_sums(shards_of_rank(world.rank(), world.size(), shards), shards, length);
      const std::vector<std::span<float>> parts(values.begin(), values.end());
      reducer.sum(parts);
      std::size_t wrong = 0;
      std::size_t other_order = 0;
      for (std::size_t i = 0; i < length; ++i) {
        if (!same_bits(values[0][i], tree_sum<float>(0, shards, i))) ++wrong;
        if (!same_bits(values[0][i], left_to_right<float>(shards, i))) ++other_order;
      }
      EXPECT_EQ(wrong, 0U) << shards << " shards, length " << length;
      if (length >= 64) {
        EXPECT_GT(other_order, length / 10) << shards << " shards, length " << length;
      }
    }
  }
  EXPECT_GE(tested, 3);
}

TEST(SumShards, IsTheTreeOfItsContract) {
  for (int shards = 1; shards <= 24; ++shards) {
    const auto sums = shard_sums({0, shards}, shards, 100);
    ASSERT_EQ(sums.size(), 1U) << shards;
    for (std::size_t i = 0; i < sums[0].size(); ++i) {
      ASSERT_TRUE(same_bits(sums[0][i], tree_sum<float>(0, shards, i))) << shards << " shards, element " << i;
    }
  }
}

/// However the shards are cut among owners, and owners among groups, the sum is the same.
TEST(SumShards, PartialSumsOfAnyRangesMakeTheTree) {
  constexpr std::size_t kLength = 50;
  for (const int shards : {8, 12, 18, 30, 45}) {
    for (const int owners : allowed_rank_counts(shards)) {
      std::vector<std::vector<float>> memory;
      std::vector<ShardRange> ranges;
      for (int owner = 0; owner < owners; ++owner) {
        ranges.push_back(shards_of_rank(owner, owners, shards));
        for (auto& sum : shard_sums(ranges.back(), shards, kLength)) memory.push_back(std::move(sum));
      }
      const std::vector<std::span<float>> parts(memory.begin(), memory.end());
      for (const int groups : allowed_rank_counts(owners)) {
        auto copy = memory;
        std::vector<std::span<float>> left;
        std::vector<ShardRange> wholes;
        auto part = copy.begin();
        for (int group = 0; group < groups; ++group) {
          const auto mine = shards_of_rank(group, groups, owners);
          const auto members = std::span(ranges).subspan(mine.begin, mine.size());
          std::vector<std::span<float>> theirs;
          for (const auto range : members) {
            for (std::size_t n = partial_sums(range, shards).size(); n > 0; --n) theirs.emplace_back(*part++);
          }
          for (const auto sum : join_parts<float>(members, shards, theirs)) left.push_back(sum);
          wholes.push_back({members.front().begin, members.back().end});
        }
        const auto sum = join_parts<float>(wholes, shards, left);
        ASSERT_EQ(sum.size(), 1U);
        for (std::size_t i = 0; i < kLength; ++i) {
          ASSERT_TRUE(same_bits(sum[0][i], tree_sum<float>(0, shards, i)))
              << shards << " shards, " << owners << " owners, " << groups << " groups, element " << i;
        }
      }
    }
  }
}

TEST(SumShards, APowerOfTwoOfRanksHasOneSumEach) {
  for (const int shards : {8, 24, 40}) {
    for (const int ranks : {1, 2, 4, 8}) {
      const auto range = shards_of_rank(ranks - 1, ranks, shards);
      EXPECT_EQ(partial_sums(range, shards), std::vector<ShardRange>{range});
    }
  }
  // (0 + 1 + 2) + (3 + 4 + 5) on three ranks: the middle one has the end of a block, and the begin of
  // another.
  EXPECT_EQ(partial_sums({2, 4}, 6), (std::vector<ShardRange>{{2, 3}, {3, 4}}));
}

TEST(RankCount, DividesTheShards) {
  EXPECT_EQ(allowed_rank_counts(8), (std::vector<int>{1, 2, 4, 8}));
  EXPECT_EQ(allowed_rank_counts(12), (std::vector<int>{1, 2, 3, 4, 6, 12}));
  EXPECT_EQ(allowed_rank_counts(7), (std::vector<int>{1, 7}));
  EXPECT_EQ(largest_rank_count(12, 5), 4);
  EXPECT_EQ(largest_rank_count(3, 2), 1);
  for (const int ranks : {1, 2, 3, 6}) EXPECT_NO_THROW(check_rank_count(ranks, 6));
  for (const int ranks : {0, 3, 5, 6, 16}) EXPECT_THROW(check_rank_count(ranks, 8), Error) << ranks;
  try {
    check_rank_count(3, 8);
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(),
                 "ranks: this number of ranks cannot share the batch: expected a number that divides 8 "
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

#include "impart/comm/reduction.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"
#include "impart/core/worker_team.hpp"

namespace impart::comm {
namespace {

constexpr std::size_t kSize = 1003;
constexpr std::size_t kParameters = 944;
constexpr int kRounds = 14;  // more than the choice of overlap takes

/// Magnitudes from 1e-6 to 1e6, so that almost every other order of summation rounds otherwise.
float value_of(int round, int shard, std::size_t i) {
  Rng rng(static_cast<std::uint64_t>(round), "reduction", i, static_cast<std::uint64_t>(shard));
  return static_cast<float>(rng.normal() * std::pow(10.0, 12 * rng.uniform_double() - 6));
}

/// All shards, as one rank alone sums them.
std::vector<float> serial_sum(int round, int shards) {
  std::vector<std::vector<float>> memory(static_cast<std::size_t>(stack_depth({0, shards}, shards)),
                                         std::vector<float>(kSize));
  const std::vector<std::span<float>> stack(memory.begin(), memory.end());
  sum_shards({0, shards}, shards, stack, [&](int shard, std::span<float> out) {
    for (std::size_t i = 0; i < kSize; ++i) out[i] = value_of(round, shard, i);
  });
  return memory[0];
}

/// One round of `reduction`, whose workers complete their buckets one after another.
void run_round(Reduction& reduction, WorkerTeam& team, int first_shard, int round) {
  reduction.begin();
  team.run([&](int w) {
    const auto parts = reduction.parts_of(w);
    const auto range = reduction.range_of(w);
    std::vector<std::vector<float>> memory(static_cast<std::size_t>(stack_depth(range, reduction.shards())),
                                           std::vector<float>(kSize));
    const std::vector<std::span<float>> stack(memory.begin(), memory.end());
    sum_shards(range, reduction.shards(), stack, [&](int shard, std::span<float> out) {
      for (std::size_t i = 0; i < kSize; ++i) out[i] = value_of(round, first_shard + shard, i);
    });
    for (std::size_t b = 0; b < reduction.buckets().size(); ++b) {
      const auto [begin, end] = reduction.buckets()[b];
      for (std::size_t part = 0; part < parts.size(); ++part) {
        std::copy(stack[part].begin() + begin, stack[part].begin() + end, parts[part].begin() + begin);
      }
      reduction.complete(w, b + 1);
      reduction.advance(w);
    }
  });
  team.run([&](int w) { reduction.finish(w); });
  reduction.end();
}

void expect_tree(const Comm& comm, const ReductionOptions& options, int rounds) {
  SCOPED_TRACE(std::to_string(options.shards) + " shards, " + std::to_string(options.workers) + " workers, " +
               std::to_string(options.node_ranks) + " ranks a node, overlap " +
               std::to_string(static_cast<int>(options.overlap)));
  Reduction reduction(comm, options);
  WorkerTeam team(options.workers);
  for (int round = 0; round < rounds; ++round) {
    run_round(reduction, team, 0, round);
    const auto wanted = serial_sum(round, options.shards);
    ASSERT_EQ(std::memcmp(reduction.sum().data(), wanted.data(), kSize * sizeof(float)), 0) << round;
  }
}

ReductionOptions small(int shards, int workers, Overlap overlap, int node_ranks) {
  return {.shards = shards,
          .workers = workers,
          .size = kSize,
          .parameters = kParameters,
          .bucket = 200,
          .overlap = overlap,
          .node_ranks = node_ranks};
}

TEST(Reduction, IsTheTreeHoweverItIsDriven) {
  const auto world = Comm::world();
  for (const auto overlap : {Overlap::kBlocking, Overlap::kPolling, Overlap::kThread}) {
    for (const int node_ranks : {0, 1, 2}) expect_tree(world, small(24, 1, overlap, node_ranks), 3);
  }
}

TEST(Reduction, IsTheTreeForAnyCutAmongThreadsRanksAndNodes) {
  const auto world = Comm::world();
  int tested = 0;
  for (const int shards : {6, 8, 12, 16, 18, 36}) {
    if (shards % world.size() != 0) continue;
    for (const int workers : {1, 2, 3}) {
      if (shards / world.size() % workers != 0) continue;
      ++tested;
      for (const int node_ranks : {0, 1, 2, 3}) {
        expect_tree(world, small(shards, workers, Overlap::kPolling, node_ranks), 2);
      }
    }
  }
  EXPECT_GE(tested, 2);
}

TEST(Reduction, RanksMayHaveUnlikeNumbersOfThreads) {
  const auto world = Comm::world();
  for (const auto overlap : {Overlap::kBlocking, Overlap::kThread}) {
    expect_tree(world, small(24 * world.size(), 1 + world.rank() % 2, overlap, 2), 2);
  }
}

TEST(Reduction, ChoosesAWayThatAllRanksShare) {
  const auto world = Comm::world();
  const ReductionOptions options = small(24, 1, Overlap::kAuto, 0);
  expect_tree(world, options, kRounds);
  Reduction reduction(world, options);
  WorkerTeam team(1);
  for (int round = 0; round < kRounds; ++round) run_round(reduction, team, 0, round);
  auto chosen = static_cast<std::int32_t>(reduction.overlap());
  EXPECT_NE(reduction.overlap(), Overlap::kAuto);
  EXPECT_EQ(reduction.settled(), reduction.overlap());
  const auto mine = chosen;
  world.max_in_place(std::span(&chosen, 1), "test");
  EXPECT_EQ(chosen, mine);
}

/// Any order gives the sum, to rounding.
TEST(Reduction, NeedNotBeReproducible) {
  const auto world = Comm::world();
  auto options = small(24, 1, Overlap::kPolling, 0);
  options.reproducible = false;
  Reduction reduction(world, options);
  WorkerTeam team(1);
  run_round(reduction, team, world.rank() * 24 / world.size(), 0);
  for (std::size_t i = 0; i < kSize; ++i) {
    double sum = 0;
    double size = 0;
    for (int shard = 0; shard < 24; ++shard) {
      sum += static_cast<double>(value_of(0, shard, i));
      size += std::abs(static_cast<double>(value_of(0, shard, i)));
    }
    ASSERT_NEAR(static_cast<double>(reduction.sum()[i]), sum, 1e-5 * size);
  }
}

TEST(Reduction, BucketsGoFromTheLastParameterToTheFirst) {
  Reduction reduction(Comm::self(), small(8, 1, Overlap::kBlocking, 0));
  std::size_t end = kParameters;
  const auto buckets = reduction.buckets();
  for (const auto& bucket : buckets.first(buckets.size() - 1)) {
    EXPECT_EQ(bucket.end, end);
    EXPECT_LT(bucket.begin, bucket.end);
    EXPECT_EQ(bucket.begin % 16, 0U);
    end = bucket.begin;
  }
  EXPECT_EQ(end, 0U);
  EXPECT_EQ(buckets.back().begin, kParameters);
  EXPECT_EQ(buckets.back().end, kSize);
}

TEST(Reduction, RefusesRanksThatCannotShareTheShards) {
  const auto world = Comm::world();
  const auto options = small(world.size() + 1, 1, Overlap::kBlocking, 0);
  if (world.size() == 1) {
    EXPECT_NO_THROW(Reduction(world, options)) << "one rank has them all";
  } else {
    EXPECT_THROW(Reduction(world, options), Error);
  }
}

}  // namespace
}  // namespace impart::comm

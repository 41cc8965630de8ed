// What holds for every sampler, and for those that go through the data.

#include "impart/data/sampler.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "impart/core/error.hpp"
#include "impart/data/batch_loader.hpp"
#include "memory_source.hpp"

namespace impart::data {
namespace {

using ::testing::Each;
using testing_support::made_up_dataset;

constexpr std::int64_t kSamples = 37;
constexpr int kShards = 4;
constexpr std::uint64_t kSeed = 7;

using Rows = std::vector<std::pair<std::int64_t, std::int64_t>>;

Rows rows_of(SampleSequence& sequence, std::int64_t step) {
  Rows rows;
  for (const auto& [row, visit] : sequence.draws(step)) rows.emplace_back(row, visit);
  return rows;
}

/// Each kind of the registry.
class AnySampler : public testing::TestWithParam<std::string_view> {
 protected:
  [[nodiscard]] std::unique_ptr<SampleSequence> sequence(std::uint64_t seed = kSeed) const {
    return make_sampler(GetParam())->over(dataset_, 8, seed);
  }
  [[nodiscard]] LoaderOptions options(int rank, int ranks) const {
    return {8, kShards, comm::shards_of_rank(rank, ranks, kShards), kSeed, make_sampler(GetParam())};
  }

  comm::Comm world_ = comm::Comm::world();
  DatasetPtr dataset_ = made_up_dataset(world_, kSamples, Shape{3}, 5);
};

TEST_P(AnySampler, AStepIsAFunctionOfTheSeedAndItself) {
  const auto forward = sequence();
  const auto backward = sequence();
  std::vector<Rows> steps;
  for (std::int64_t step = 0; step < 40; ++step) {
    steps.push_back(rows_of(*forward, step));
    for (const auto& [row, visit] : steps.back()) EXPECT_TRUE(row >= 0 && row < kSamples && visit >= 0);
  }
  for (std::int64_t step = 39; step >= 0; --step) {
    EXPECT_EQ(rows_of(*backward, step), steps[static_cast<std::size_t>(step)]) << step;
  }
}

TEST_P(AnySampler, ASampleIsNeverShownTwiceForTheSameVisit) {
  const auto all = sequence();
  Rows seen;
  for (std::int64_t step = 0; step < 60; ++step) {
    const auto rows = rows_of(*all, step);
    seen.insert(seen.end(), rows.begin(), rows.end());
  }
  std::ranges::sort(seen);
  EXPECT_EQ(std::ranges::adjacent_find(seen), seen.end());
}

TEST_P(AnySampler, RanksHaveThePartsOfOneBatch) {
  BatchLoader mine(dataset_, options(world_.rank(), world_.size()));
  BatchLoader all(dataset_, options(0, 1));
  const auto range = comm::shards_of_rank(world_.rank(), world_.size(), kShards);
  for (int step = 0; step < 40; ++step) {
    const auto& part = mine.next();
    const auto& whole = all.next();
    EXPECT_EQ(part.global_size, whole.global_size);
    std::int64_t size = 0;
    for (const auto& shard : whole.shards) size += shard.size;
    EXPECT_EQ(size, whole.global_size);
    for (int shard = range.begin; shard < range.end; ++shard) {
      const auto& a = part.shards[static_cast<std::size_t>(shard - range.begin)];
      const auto& b = whole.shards[static_cast<std::size_t>(shard)];
      EXPECT_TRUE(std::ranges::equal(a.rows, b.rows));
      EXPECT_TRUE(std::ranges::equal(a.inputs, b.inputs));
      EXPECT_TRUE(std::ranges::equal(a.labels, b.labels));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Samplers, AnySampler, testing::ValuesIn(samplers().names()),
                         [](const auto& each) { return std::string(each.param); });

TEST(Sampler, EpochsVisitEverySampleOnce) {
  const auto dataset = made_up_dataset(comm::Comm::world(), kSamples, Shape{3}, 5);
  for (const auto* kind : {"shuffled", "sequential"}) {
    const auto sequence = make_sampler(kind)->over(dataset, 8, kSeed);
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
      std::vector<int> seen(kSamples);
      const auto steps = steps_per_epoch(kSamples, 8);
      for (auto step = epoch * steps; step < (epoch + 1) * steps; ++step) {
        for (const auto& [row, visit] : sequence->draws(step)) {
          ++seen[static_cast<std::size_t>(row)];
          EXPECT_EQ(visit, epoch);
        }
      }
      EXPECT_THAT(seen, Each(1)) << kind;
    }
  }
}

TEST(Sampler, SequentialKeepsTheOrder) {
  const auto dataset = made_up_dataset(comm::Comm::world(), kSamples, Shape{3}, 5);
  const auto sequence = make_sampler("sequential")->over(dataset, 8, kSeed);
  EXPECT_EQ(rows_of(*sequence, 1).front(), std::pair(std::int64_t{8}, std::int64_t{0}));
  EXPECT_EQ(rows_of(*sequence, 4).size(), 5U);
}

TEST(Sampler, UnknownKindsAreRefused) { EXPECT_THROW(make_sampler("shufled"), Error); }

}  // namespace
}  // namespace impart::data

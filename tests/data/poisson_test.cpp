// How often samples join, alone and in pairs; batches of any size.

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "impart/data/batch_loader.hpp"
#include "memory_source.hpp"

namespace impart::data {
namespace {

using testing_support::made_up_dataset;

TEST(Poisson, EachSampleJoinsByItself) {
  constexpr std::int64_t kSamples = 50;
  constexpr int kSteps = 20'000;
  constexpr double kProbability = 0.2;
  const auto dataset = made_up_dataset(comm::Comm::world(), kSamples, Shape{1}, 2);
  const auto sequence = make_sampler("poisson")->over(dataset, 10, 5);
  std::vector<double> joined(kSamples);
  double pairs = 0;  // of the first two samples
  double size = 0;
  double squares = 0;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    std::vector<bool> in(kSamples);
    for (const auto& draw : sequence->draws(step)) in[static_cast<std::size_t>(draw.row)] = true;
    double count = 0;
    for (std::size_t i = 0; i < in.size(); ++i) {
      joined[i] += in[i] ? 1 : 0;
      count += in[i] ? 1 : 0;
    }
    pairs += in[0] && in[1] ? 1 : 0;
    size += count;
    squares += count * count;
  }
  const double deviation = std::sqrt(kProbability * (1 - kProbability) / kSteps);
  for (const double count : joined) EXPECT_NEAR(count / kSteps, kProbability, 4 * deviation);
  EXPECT_NEAR(pairs / kSteps, kProbability * kProbability, 0.006);
  // Binomial: mean n q, variance n q (1 - q).
  const double mean = size / kSteps;
  EXPECT_NEAR(mean, 10, 0.08);
  EXPECT_NEAR(squares / kSteps - mean * mean, 8, 0.35);
}

TEST(Poisson, BatchesOfAnySizeAreCutIntoShards) {
  constexpr int kShards = 4;
  const auto dataset = made_up_dataset(comm::Comm::world(), 20, Shape{2}, 2);
  BatchLoader loader(dataset, {4, kShards, {0, kShards}, 5, make_sampler("poisson")});
  bool has_none = false;
  bool has_many = false;
  for (int step = 0; step < 400; ++step) {
    const auto& batch = loader.next();
    EXPECT_EQ(batch.divisor(), 4);
    std::int64_t size = 0;
    std::int64_t least = 20;
    std::int64_t most = 0;
    for (const auto& shard : batch.shards) {
      EXPECT_EQ(shard.inputs.size(), static_cast<std::size_t>(2 * shard.size));
      size += shard.size;
      least = std::min(least, shard.size);
      most = std::max(most, shard.size);
    }
    EXPECT_EQ(size, batch.global_size);
    EXPECT_LE(most - least, 1);
    has_none |= size == 0;
    has_many |= size > 4;
  }
  EXPECT_TRUE(has_none && has_many);
}

TEST(Poisson, ASmallDatasetJoinsWhole) {
  const auto dataset = made_up_dataset(comm::Comm::world(), 5, Shape{2}, 2);
  BatchLoader loader(dataset, {8, 4, {0, 4}, 5, make_sampler("poisson")});
  const auto& batch = loader.next();
  EXPECT_EQ(batch.global_size, 5);
  EXPECT_EQ(batch.divisor(), 5);
}

}  // namespace
}  // namespace impart::data

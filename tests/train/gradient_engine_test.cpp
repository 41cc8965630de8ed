#include "impart/train/gradient_engine.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "impart/core/error.hpp"
#include "memory_source.hpp"
#include "train/small_net.hpp"

namespace impart::train {
namespace {

using testing_support::made_up_dataset;
using testing_support::small_net;

struct Computed {
  double loss = 0;
  std::vector<float> gradient;
};

/// Loss and gradient of step `step` of a made-up data set of 70 samples in batches of 4 a shard (the last is
/// a tail, with shards that have no sample).
Computed compute(const comm::Comm& comm, int shards, int threads, int step,
                 comm::Overlap overlap = comm::Overlap::kAuto, bool sync = false) {
  const auto spec = small_net(4, sync);
  const auto objective = nn::make_cross_entropy();
  const auto dataset = made_up_dataset(comm, 70, spec.input, spec.classes);
  const auto batch = std::int64_t{4} * shards;
  GradientEngine engine(comm, spec, *objective,
                        {{.shards = shards, .threads = threads, .overlap = overlap}, batch, 5});
  data::BatchLoader loader(dataset, {batch, shards, engine.range(), 5}, step);
  const auto state = nn::initial_state(spec, 3);
  const auto result = engine.compute(state, loader.next(), false);
  EXPECT_FALSE(result.stop);
  const auto arena = engine.gradient().arena();
  return {result.loss, {arena.begin(), arena.end()}};
}

/// Of a full batch of 32, with its running statistics in the gradient; without dropout, whose masks of
/// samples that are in other places would be others.
Computed compute_batch(const comm::Comm& comm, bool sync, int shards) {
  auto spec = small_net(4, sync);
  std::erase_if(spec.layers, [](const auto& layer) { return layer.kind == "dropout"; });
  const auto objective = nn::make_cross_entropy();
  const auto dataset = made_up_dataset(comm, 70, spec.input, spec.classes);
  GradientEngine engine(comm, spec, *objective, {{.shards = shards}, 32});
  data::BatchLoader loader(dataset, {32, shards, engine.range(), 5});
  const auto result = engine.compute(nn::initial_state(spec, 3), loader.next(), false);
  const auto arena = engine.gradient().arena();
  return {result.loss, {arena.begin(), arena.end()}};
}

/// ||a - b|| / ||b||.
double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / norm);
}

TEST(GradientEngine, SameBitsForAnyNumberOfRanksAndThreads) {
  const auto world = comm::Comm::world();
  int tested = 0;
  for (const int shards : {6, 8, 12}) {
    if (shards % world.size() != 0) continue;
    ++tested;
    for (const int step : {0, 69 / (4 * shards)}) {
      const auto alone = compute(comm::Comm::self(), shards, 1, step);
      EXPECT_GT(alone.loss, 0.1);
      for (const int threads : {1, 2, 3}) {
        for (const auto overlap :
             {comm::Overlap::kBlocking, comm::Overlap::kPolling, comm::Overlap::kThread}) {
          const auto together = compute(world, shards, threads, step, overlap);
          EXPECT_EQ(together.loss, alone.loss);
          EXPECT_EQ(together.gradient, alone.gradient)
              << shards << " shards, step " << step << ", " << threads << " threads";
        }
      }
    }
  }
  EXPECT_GE(tested, 1);
}

/// Batch norm over ranks: a full batch, and a tail, whose shards are on their own.
TEST(GradientEngine, SameBitsForAnyNumberOfRanksThatShareStatistics) {
  const auto world = comm::Comm::world();
  constexpr int kShards = 8;
  if (kShards % world.size() != 0) GTEST_SKIP() << "shards are powers of two";
  for (const int step : {0, 2}) {
    const auto alone = compute(comm::Comm::self(), kShards, 1, step, comm::Overlap::kAuto, true);
    const auto apart = compute(comm::Comm::self(), kShards, 1, step);
    EXPECT_EQ(alone.gradient == apart.gradient, step == 2) << "what `sync` changes";
    for (const auto overlap : {comm::Overlap::kBlocking, comm::Overlap::kPolling, comm::Overlap::kThread}) {
      const auto together = compute(world, kShards, 2, step, overlap, true);
      EXPECT_EQ(together.loss, alone.loss);
      EXPECT_EQ(together.gradient, alone.gradient) << "step " << step;
    }
  }
}

/// A batch that is one shard is what all ranks' shards are together: loss, gradient, and running statistics.
TEST(GradientEngine, SharedStatisticsAreThoseOfTheWholeBatch) {
  const auto world = comm::Comm::world();
  if (8 % world.size() != 0) GTEST_SKIP() << "shards are powers of two";
  const auto together = compute_batch(world, true, 8);
  const auto whole = compute_batch(comm::Comm::self(), false, 1);
  const auto apart = compute_batch(comm::Comm::self(), false, 8);
  EXPECT_NEAR(together.loss / whole.loss, 1, 1e-6);
  EXPECT_LT(relative_difference(together.gradient, whole.gradient), 1e-5);
  EXPECT_GT(relative_difference(apart.gradient, whole.gradient), 1e-2);
}

TEST(GradientEngine, SharedStatisticsNeedAPowerOfTwoOfShards) {
  const auto self = comm::Comm::self();
  const auto objective = nn::make_cross_entropy();
  const EngineOptions six{{.shards = 6}, 24};
  EXPECT_THROW(GradientEngine(self, small_net(4, true), *objective, six), Error);
  EXPECT_EQ(engine_memory(small_net(4, false), six, 2).total(),
            engine_memory(small_net(4, true), six, 2).total());
  // Frozen, it has no statistics of the batch.
  auto frozen = six;
  frozen.trainable = [](const std::string& name) { return !name.starts_with("bn1."); };
  GradientEngine(self, small_net(4, true), *objective, frozen);
}

/// All shards of a rank are computed at once, whatever they need.
TEST(GradientEngine, SharedStatisticsTakeAllShardsAtOnce) {
  const EngineOptions options{{.threads = 4}, 8 * 4096};
  EXPECT_EQ(shards_at_once(small_net(4, true), options, 2), 4);
  EXPECT_LT(shards_at_once(small_net(4, false), options, 1), 8);
  EXPECT_EQ(shards_at_once(small_net(4, true), options, 1), 8);
  EXPECT_GT(engine_memory(small_net(4, true), options, 1).activations,
            engine_memory(small_net(4, true), options, 4).activations * 3);
}

/// Without batch norm and dropout, the gradient of the batch does not depend on how it is cut.
TEST(GradientEngine, TheMeanOverTheBatchHoweverItIsCut) {
  auto spec = small_net();
  std::erase_if(spec.layers,
                [](const auto& layer) { return layer.kind == "batch_norm" || layer.kind == "dropout"; });
  const auto self = comm::Comm::self();
  const auto objective = nn::make_objective(SettingTable{{"class_weights", std::vector{1.0, 0.5, 3.0, 2.0}}});
  const auto dataset = made_up_dataset(self, 70, spec.input, spec.classes);
  const auto state = nn::initial_state(spec, 3);
  const auto gradient = [&](int shards) {
    GradientEngine engine(self, spec, *objective, {{.shards = shards}, 32, 5});
    data::BatchLoader loader(dataset, {32, shards, engine.range(), 5}, 2);
    const auto result = engine.compute(state, loader.next(), false);
    std::vector<float> values(engine.gradient().arena().begin(), engine.gradient().arena().end());
    values.push_back(static_cast<float>(result.loss));
    return values;
  };
  const auto whole = gradient(1);
  const auto parts = gradient(8);
  for (std::size_t i = 0; i < whole.size(); ++i) ASSERT_NEAR(whole[i], parts[i], 1e-6) << i;
}

/// The last batch of 70 samples has 22, of which PyTorch's mean divides by the sum of the labels' weights.
TEST(GradientEngine, ClassWeightsAreThoseOfTheWholeBatch) {
  const auto spec = small_net();
  const auto world = comm::Comm::world();
  const std::vector<double> weights{1, 0.5, 3, 2};
  const auto dataset = made_up_dataset(world, 70, spec.input, spec.classes);
  const auto state = nn::initial_state(spec, 3);
  const auto compute_with = [&](const std::vector<double>& class_weights) {
    const auto objective = nn::make_objective(SettingTable{{"class_weights", class_weights}});
    GradientEngine engine(world, spec, *objective, {{.shards = 24}, 24, 5});
    data::BatchLoader loader(dataset, {24, 24, engine.range(), 5}, 2);
    return engine.compute(state, loader.next(), false);
  };
  // A class at a time: the others' weights are next to nothing.
  double loss = 0;
  double weight = 0;
  for (std::size_t c = 0; c < weights.size(); ++c) {
    std::vector<double> one(weights.size(), 1e-12);
    one[c] = 1;
    const auto part = compute_with(one);
    loss += weights[c] * part.loss * part.weight;
    weight += weights[c] * part.weight;
  }
  const auto whole = compute_with(weights);
  EXPECT_NEAR(whole.weight, weight, 1e-6);
  EXPECT_NEAR(whole.loss, loss / weight, 1e-6);
  EXPECT_EQ(compute_with({}).weight, 22);
}

TEST(GradientEngine, OneRankThatWantsToStopStopsAll) {
  const auto world = comm::Comm::world();
  const auto spec = small_net();
  const auto objective = nn::make_cross_entropy();
  const auto dataset = made_up_dataset(world, 70, spec.input, spec.classes);
  GradientEngine engine(world, spec, *objective, {{.shards = 24}, 24, 5});
  data::BatchLoader loader(dataset, {24, 24, engine.range(), 5});
  const auto state = nn::initial_state(spec, 3);
  const bool last = world.rank() == world.size() - 1;
  EXPECT_TRUE(engine.compute(state, loader.next(), last).stop);
}

/// 49 samples in batches of 16 over 8 shards leave one sample, of which a batch norm over features has no
/// statistics.
TEST(GradientEngine, ATailOfOneSampleUsesRunningStatistics) {
  const auto self = comm::Comm::self();
  nn::ModelSpec spec{
      "features", Shape{6}, 3, {{"batch_norm", "", {}}, {"dense", "", {{"units", std::int64_t{3}}}}}};
  nn::name_layers(spec);
  const auto objective = nn::make_cross_entropy();
  const auto dataset = made_up_dataset(self, 49, spec.input, 3);
  const auto state = nn::initial_state(spec, 3);
  GradientEngine engine(self, spec, *objective, {{}, 16, 5});
  data::BatchLoader loader(dataset, {16, 8, engine.range(), 5}, 3);
  const auto result = engine.compute(state, loader.next(), false);
  EXPECT_TRUE(std::isfinite(result.loss));
  for (const float change : engine.gradient().values("bn1.running_var")) EXPECT_EQ(change, 0);
  for (const float g : engine.gradient().values("bn1.weight")) EXPECT_TRUE(std::isfinite(g));
  // A whole batch of such shards never learns statistics: that is an error.
  EXPECT_THROW(GradientEngine(self, spec, *objective, {{}, 8, 5}), Error);
}

TEST(GradientEngine, RefusesWhatCannotBeCut) {
  const auto objective = nn::make_cross_entropy();
  const auto self = comm::Comm::self();
  EXPECT_THROW(GradientEngine(self, small_net(), *objective, {{}, 30}), Error);
}

}  // namespace
}  // namespace impart::train

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

/// Loss and gradient of step `step` of a made-up data set of 70 samples in batches of 32 (the third step is a
/// tail).
Computed compute(const comm::Comm& comm, int shards, int threads, int step) {
  const auto spec = small_net();
  const auto objective = nn::make_cross_entropy();
  const auto dataset = made_up_dataset(comm, 70, spec.input, spec.classes);
  GradientEngine engine(comm, spec, *objective, {32, shards, threads, 5, {}});
  data::BatchLoader loader(dataset, {32, shards, engine.range(), 5, true}, step);
  const auto state = nn::initial_state(spec, 3);
  const auto result = engine.compute(state, loader.next(), false);
  EXPECT_FALSE(result.stop);
  const auto arena = engine.gradient().arena();
  return {result.loss, {arena.begin(), arena.end()}};
}

TEST(GradientEngine, SameBitsForAnyNumberOfRanksAndThreads) {
  const auto world = comm::Comm::world();
  for (const int step : {0, 2}) {
    const auto alone = compute(comm::Comm::self(), 8, 1, step);
    EXPECT_GT(alone.loss, 0.1);
    for (const int threads : {1, 2}) {
      const auto together = compute(world, 8, threads, step);
      EXPECT_EQ(together.loss, alone.loss);
      EXPECT_EQ(together.gradient, alone.gradient) << "step " << step << ", " << threads << " threads";
    }
  }
}

/// Without batch norm and dropout, the gradient of the batch does not depend on how it is cut.
TEST(GradientEngine, TheMeanOverTheBatchHoweverItIsCut) {
  auto spec = small_net();
  std::erase_if(spec.layers,
                [](const auto& layer) { return layer.kind == "batch_norm" || layer.kind == "dropout"; });
  const auto self = comm::Comm::self();
  const auto objective = nn::make_cross_entropy();
  const auto dataset = made_up_dataset(self, 70, spec.input, spec.classes);
  const auto state = nn::initial_state(spec, 3);
  const auto gradient = [&](int shards) {
    GradientEngine engine(self, spec, *objective, {32, shards, 1, 5, {}});
    data::BatchLoader loader(dataset, {32, shards, engine.range(), 5, true}, 2);
    const auto result = engine.compute(state, loader.next(), false);
    std::vector<float> values(engine.gradient().arena().begin(), engine.gradient().arena().end());
    values.push_back(static_cast<float>(result.loss));
    return values;
  };
  const auto whole = gradient(1);
  const auto parts = gradient(8);
  for (std::size_t i = 0; i < whole.size(); ++i) ASSERT_NEAR(whole[i], parts[i], 1e-6) << i;
}

TEST(GradientEngine, OneRankThatWantsToStopStopsAll) {
  const auto world = comm::Comm::world();
  const auto spec = small_net();
  const auto objective = nn::make_cross_entropy();
  const auto dataset = made_up_dataset(world, 70, spec.input, spec.classes);
  GradientEngine engine(world, spec, *objective, {32, 8, 1, 5, {}});
  data::BatchLoader loader(dataset, {32, 8, engine.range(), 5, true});
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
  GradientEngine engine(self, spec, *objective, {16, 8, 1, 5, {}});
  data::BatchLoader loader(dataset, {16, 8, engine.range(), 5, true}, 3);
  const auto result = engine.compute(state, loader.next(), false);
  EXPECT_TRUE(std::isfinite(result.loss));
  for (const float change : engine.gradient().values("bn1.running_var")) EXPECT_EQ(change, 0);
  for (const float g : engine.gradient().values("bn1.weight")) EXPECT_TRUE(std::isfinite(g));
  // A whole batch of such shards never learns statistics: that is an error.
  EXPECT_THROW(GradientEngine(self, spec, *objective, {8, 8, 1, 5, {}}), Error);
}

TEST(GradientEngine, RefusesWhatCannotBeCut) {
  const auto objective = nn::make_cross_entropy();
  const auto self = comm::Comm::self();
  EXPECT_THROW(GradientEngine(self, small_net(), *objective, {30, 8, 1, 0, {}}), Error);
}

}  // namespace
}  // namespace impart::train

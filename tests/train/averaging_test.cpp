#include "impart/train/average.hpp"

#include <gtest/gtest.h>

#include "impart/nn/network.hpp"
#include "impart/train/recalibration.hpp"
#include "memory_source.hpp"

namespace impart::train {
namespace {

StateDict one_value(float value) {
  StateDict state(std::make_shared<StateLayout>(std::vector<StateEntry>{{"w", Shape{1}}}));
  state.values("w")[0] = value;
  return state;
}

TEST(WeightAverage, MovesAsItsFormulaSays) {
  WeightAverage average(make_average({{"kind", "ema"}, {"decay", 0.25}}), 1);
  EXPECT_TRUE(average.state().empty());
  double expected = 0;
  for (int update = 0; update < 5; ++update) {
    const auto w = static_cast<float>(update * update - 3);
    average.after_update(one_value(w), update);
    const double decay = update == 0 ? 0 : std::min(0.25, (1.0 + update) / (10.0 + update));
    expected = decay * expected + (1 - decay) * static_cast<double>(w);
    EXPECT_NEAR(average.state().values("w")[0], expected, 1e-6);
  }
}

TEST(WeightAverage, IsTheMeanOfTheLastEpochs) {
  const auto swa = make_average({{"kind", "swa"}, {"start", 0.5}, {"learning_rate", 0.1}});
  WeightAverage average(swa, 6);
  for (int epoch = 1; epoch <= 6; ++epoch) {
    EXPECT_EQ(swa->learning_rate(epoch - 1, 6), epoch > 3 ? 0.1 : 0);
    average.after_epoch(one_value(static_cast<float>(epoch * epoch)), epoch);
    EXPECT_EQ(average.state().empty(), epoch <= 3);
  }
  EXPECT_NEAR(average.state().values("w")[0], (16 + 25 + 36) / 3.0, 1e-5);
}

/// The statistics of the first batch norm are those of the samples, whatever the state has said of them;
/// those of a frozen one stay. 70 samples in batches of 32 are two full batches.
TEST(Recalibration, TakesTheStatisticsOfTheTrainingData) {
  const auto world = comm::Comm::world();
  nn::ModelSpec spec{"features",
                     Shape{6},
                     3,
                     {{"batch_norm", "", {{"momentum", 0.3}}},
                      {"dense", "", {{"units", std::int64_t{5}}}},
                      {"batch_norm", "", {}},
                      {"dense", "", {{"units", std::int64_t{3}}}}}};
  nn::name_layers(spec);
  const auto data = testing_support::made_up_dataset(world, 70, spec.input, 3);
  auto state = nn::initial_state(spec, 3);
  for (float& value : state.buffers()) value = 0.7F;
  const auto objective = nn::make_cross_entropy();
  EngineOptions options{{}, 32, 5, [](const std::string& name) { return !name.starts_with("bn2"); }};
  recalibrate_batch_norm(world, spec, *objective, options, data, state);

  std::vector<float> sample(6);
  std::vector<double> mean(6);
  for (std::int64_t i = 0; i < 64; ++i) {
    data->get(i, sample);
    for (std::size_t c = 0; c < 6; ++c) mean[c] += static_cast<double>(sample[c]) / 64;
  }
  for (std::size_t c = 0; c < 6; ++c) EXPECT_NEAR(state.values("bn1.running_mean")[c], mean[c], 1e-5);
  for (const float value : state.values("bn2.running_mean")) EXPECT_EQ(value, 0.7F);

  auto alone = nn::initial_state(spec, 3);
  for (float& value : alone.buffers()) value = 0.7F;
  recalibrate_batch_norm(comm::Comm::self(), spec, *objective, options, data, alone);
  EXPECT_TRUE(std::equal(alone.arena().begin(), alone.arena().end(), state.arena().begin()));
}

}  // namespace
}  // namespace impart::train

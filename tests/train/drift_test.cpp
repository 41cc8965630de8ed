#include "train/drift.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>

#include "impart/comm/tree_reducer.hpp"
#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"
#include "impart/train/gradient_engine.hpp"
#include "memory_source.hpp"
#include "train/small_net.hpp"

namespace impart::train {
namespace {

class Drift : public testing::Test {
 protected:
  /// One check of all ranks. Empty, or the error.
  std::string check(DriftCheck& drift, const StateDict& state, std::int64_t step) {
    std::array<float, DriftCheck::kLanes> lanes{};
    drift.put(state, step, lanes);
    comm::TreeReducer<float>(world_).sum_in_place(lanes);
    try {
      drift.verify(state, step, lanes);
    } catch (const Error& e) {
      EXPECT_TRUE(e.is_collective());
      return e.what();
    }
    return "";
  }

  /// Flips the lowest bit of one weight.
  static void flip(StateDict& state, const std::string& name) {
    auto& value = state.values(name)[3];
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    bits ^= 1U;
    std::memcpy(&value, &bits, sizeof(bits));
  }

  comm::Comm world_ = comm::Comm::world();
  StateDict state_ = nn::initial_state(testing_support::small_net(), 3);
};

TEST_F(Drift, EqualWeightsPass) {
  DriftCheck drift(world_, 10);
  for (const int step : {0, 10, 20}) EXPECT_EQ(check(drift, state_, step), "");
}

TEST_F(Drift, IsDueEveryFewSteps) {
  const DriftCheck drift(world_, 10);
  EXPECT_EQ(drift.is_due(20), world_.size() > 1);
  EXPECT_FALSE(drift.is_due(21));
  EXPECT_FALSE(DriftCheck(world_, 0).is_due(20));
}

TEST_F(Drift, AFlippedBitIsFoundAndNamed) {
  if (world_.size() == 1) GTEST_SKIP() << "one rank cannot differ from others";
  DriftCheck drift(world_, 10);
  EXPECT_EQ(check(drift, state_, 10), "");
  if (world_.rank() == world_.size() - 1) flip(state_, "dense1.weight");
  const auto text = check(drift, state_, 20);
  EXPECT_THAT(text, testing::HasSubstr("step 20"));
  EXPECT_THAT(text, testing::HasSubstr("as at step 10"));
  EXPECT_THAT(text, testing::HasSubstr("'dense1.weight'"));
  if (world_.size() > 2) {
    EXPECT_THAT(text, testing::HasSubstr("on rank " + std::to_string(world_.size() - 1)));
  }
}

TEST_F(Drift, TwoRanksThatDifferInTheSameWayAreFoundSoon) {
  if (world_.size() < 4) GTEST_SKIP() << "needs ranks that stay equal";
  DriftCheck drift(world_, 1);
  if (world_.rank() < 2) flip(state_, "conv1.weight");
  std::string text;
  for (int step = 0; step < 4 && text.empty(); ++step) text = check(drift, state_, step);
  EXPECT_THAT(text, testing::HasSubstr("'conv1.weight'"));
}

TEST_F(Drift, TheEngineFindsIt) {
  if (world_.size() == 1) GTEST_SKIP() << "one rank cannot differ from others";
  const auto spec = testing_support::small_net();
  const auto objective = nn::make_cross_entropy();
  const auto data = testing_support::made_up_dataset(world_, 64, spec.input, spec.classes);
  GradientEngine engine(world_, spec, *objective, {{.drift_check = 2}, 16});
  data::BatchLoader loader(data, {16, 8, engine.range(), 5});
  engine.compute(state_, loader.next(), false);
  engine.compute(state_, loader.next(), false);
  if (world_.rank() == 0) flip(state_, "dense2.bias");
  try {
    engine.compute(state_, loader.next(), false);
    FAIL() << "the difference was not found";
  } catch (const Error& e) {
    EXPECT_TRUE(e.is_collective());
    EXPECT_THAT(e.what(), testing::HasSubstr("step 2"));
    EXPECT_THAT(e.what(), testing::HasSubstr("as at step 0"));
    EXPECT_THAT(e.what(), testing::HasSubstr("'dense2.bias'"));
  }
}

}  // namespace
}  // namespace impart::train

#include "impart/share/combine.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"

namespace impart::share {
namespace {

StateDict random_state(std::uint64_t seed, const std::string& first = "a.weight") {
  StateDict state(std::make_shared<StateLayout>(
      std::vector<StateEntry>{{first, Shape{5}}, {"b.running_mean", Shape{3}, StateKind::kBuffer}}));
  for (const auto& entry : state.layout().entries()) {
    Rng rng(seed, "values", name_id(entry.name));
    for (auto& x : state.values(entry)) x = static_cast<float>(rng.normal());
  }
  return state;
}

TEST(Average, IsTheMeanOfParametersAndBuffers) {
  const auto a = random_state(1);
  const auto b = random_state(2);
  const auto mean = average(std::vector{&a, &b}, {});
  for (const auto* name : {"a.weight", "b.running_mean"}) {
    for (std::size_t i = 0; i < mean.values(name).size(); ++i) {
      EXPECT_FLOAT_EQ(mean.values(name)[i], 0.5F * (a.values(name)[i] + b.values(name)[i]));
    }
  }
}

TEST(Average, OfEqualModelsIsThatModelBitForBit) {
  const auto a = random_state(1);
  const auto mean = average(std::vector{&a, &a, &a}, {});
  EXPECT_TRUE(std::equal(a.arena().begin(), a.arena().end(), mean.arena().begin()));
}

TEST(Weighted, DividesByTheSumOfTheWeights) {
  const auto a = random_state(1);
  const auto b = random_state(2);
  const auto mean = weighted(std::vector{&a, &b}, std::vector{3.0, 1.0});
  EXPECT_NEAR(mean.values("a.weight")[2], 0.75 * a.values("a.weight")[2] + 0.25 * b.values("a.weight")[2],
              1e-7);
  const auto only_b = weighted(std::vector{&a, &b}, std::vector{0.0, 2.0});
  EXPECT_TRUE(std::equal(b.arena().begin(), b.arena().end(), only_b.arena().begin()));
}

TEST(Weighted, RefusesWhatHasNoMean) {
  const auto a = random_state(1);
  const auto other = random_state(2, "c.weight");
  EXPECT_THROW(weighted({}, {}), Error);
  EXPECT_THROW(weighted(std::vector{&a, &a}, std::vector{1.0}), Error);
  EXPECT_THROW(weighted(std::vector{&a, &a}, std::vector{1.0, -1.0}), Error);
  EXPECT_THROW(weighted(std::vector{&a}, std::vector{0.0}), Error);
  EXPECT_THROW(weighted(std::vector{&a}, std::vector{std::numeric_limits<double>::quiet_NaN()}), Error);
  try {
    weighted(std::vector{&a, &other}, std::vector{1.0, 1.0});
    FAIL() << "models of different architecture were combined";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("'a.weight' is missing"), std::string::npos) << e.what();
  }
}

TEST(Combiners, AreFoundByName) {
  const auto a = random_state(1);
  for (const auto name : combiner_names()) {
    const auto result = find_combiner(name)(std::vector{&a}, std::vector{1.0});
    EXPECT_TRUE(std::equal(a.arena().begin(), a.arena().end(), result.arena().begin())) << name;
  }
  EXPECT_THROW(find_combiner("averige"), Error);
}

}  // namespace
}  // namespace impart::share

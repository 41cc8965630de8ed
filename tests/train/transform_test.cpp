#include "impart/train/transform.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"

namespace impart::train {
namespace {

/// Two matrices, one of several pieces, a bias, and statistics.
StateLayoutPtr some_tensors() {
  return std::make_shared<StateLayout>(std::vector<StateEntry>{{"a.weight", Shape{331, 400}},
                                                               {"a.bias", Shape{7}},
                                                               {"b.weight", Shape{5, 3}},
                                                               {"mean", Shape{7}, StateKind::kBuffer}});
}

StateDict random_values(const StateLayoutPtr& layout, std::uint64_t seed) {
  StateDict values(layout);
  Rng rng(seed, "values");
  for (const auto& entry : layout->entries()) {
    for (float& value : values.values(entry)) value = static_cast<float>(rng.normal());
  }
  return values;
}

class Transform : public ::testing::TestWithParam<int> {  // of so many threads
 protected:
  double apply(const GradientTransformPtr& transform, const IsTrained& is_trained = {}) {
    TransformChain chain({transform}, layout_);
    chain.start(start_);
    const TrainedParameters parameters(layout_, is_trained, &team_);
    return chain.apply(state_, gradient_, 0, parameters);
  }

  StateLayoutPtr layout_ = some_tensors();
  StateDict start_ = random_values(layout_, 1);
  StateDict state_ = random_values(layout_, 2);
  StateDict gradient_ = random_values(layout_, 3);
  const StateDict before_ = random_values(layout_, 3);
  WorkerTeam team_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Threads, Transform, ::testing::Values(1, 3));

TEST_P(Transform, L2IsOfTrainedWeightsAndNotOfBiases) {
  const double penalty = apply(make_l2(0.5), [](const std::string& name) { return name != "b.weight"; });
  double squares = 0;
  for (const float w : state_.values("a.weight")) squares += std::pow(static_cast<double>(w), 2);
  EXPECT_NEAR(penalty, 0.25 * squares, 1e-9 * squares);
  for (const auto& entry : layout_->entries()) {
    const float factor = entry.name == "a.weight" ? 0.5F : 0.0F;
    const auto g = gradient_.values(entry);
    for (std::size_t i = 0; i < g.size(); ++i)
      ASSERT_EQ(g[i], before_.values(entry)[i] + factor * state_.values(entry)[i]) << entry.name;
  }
}

TEST_P(Transform, ProximalPullsAllTrainedParametersBack) {
  const double penalty = apply(make_proximal(0.1));
  double squares = 0;
  for (const auto* name : {"a.weight", "a.bias", "b.weight"}) {
    const auto g = gradient_.values(name);
    for (std::size_t i = 0; i < g.size(); ++i) {
      const float far = state_.values(name)[i] - start_.values(name)[i];
      squares += std::pow(static_cast<double>(far), 2);
      ASSERT_EQ(g[i], before_.values(name)[i] + 0.1F * far);
    }
  }
  EXPECT_NEAR(penalty, 0.05 * squares, 1e-6 * squares);
  for (std::size_t i = 0; i < 7; ++i) EXPECT_EQ(gradient_.values("mean")[i], before_.values("mean")[i]);
}

TEST_P(Transform, ProximalTakesTheReferenceThatItIsGiven) {
  EXPECT_EQ(apply(make_proximal(1, std::make_shared<StateDict>(state_.clone()))), 0);
  const auto other = std::make_shared<StateDict>(
      std::make_shared<StateLayout>(std::vector<StateEntry>{{"another", Shape{2}}}));
  EXPECT_THROW(apply(make_proximal(1, other)), Error);
}

TEST_P(Transform, ClipNormShortensTheTrainedGradientOnly) {
  const auto is_trained = [](const std::string& name) { return name != "b.weight"; };
  double squares = 0;
  for (const auto* name : {"a.weight", "a.bias"}) {
    for (const float g : gradient_.values(name)) squares += std::pow(static_cast<double>(g), 2);
  }
  EXPECT_EQ(apply(make_clip_norm(2), is_trained), 0);
  const double scale = 2 / (std::sqrt(squares) + 1e-6);
  EXPECT_NEAR(gradient_.values("a.weight")[5] / before_.values("a.weight")[5], scale, 1e-6);
  EXPECT_NEAR(gradient_.values("a.bias")[5] / before_.values("a.bias")[5], scale, 1e-6);
  EXPECT_EQ(gradient_.values("b.weight")[5], before_.values("b.weight")[5]);

  const auto clipped = gradient_.clone();
  apply(make_clip_norm(10), is_trained);  // it is short enough
  EXPECT_TRUE(std::equal(clipped.arena().begin(), clipped.arena().end(), gradient_.arena().begin()));
}

TEST_P(Transform, ClipValueCutsOffAndKeepsWhatIsNoNumber) {
  gradient_.values("a.bias")[0] = std::numeric_limits<float>::quiet_NaN();
  gradient_.values("a.bias")[1] = 7;
  gradient_.values("a.bias")[2] = -7;
  gradient_.values("a.bias")[3] = 0.25F;
  apply(make_clip_value(0.5));
  EXPECT_TRUE(std::isnan(gradient_.values("a.bias")[0]));
  EXPECT_EQ(gradient_.values("a.bias")[1], 0.5F);
  EXPECT_EQ(gradient_.values("a.bias")[2], -0.5F);
  EXPECT_EQ(gradient_.values("a.bias")[3], 0.25F);
  for (const float g : gradient_.values("a.weight")) ASSERT_LE(std::abs(g), 0.5F);
}

TEST(TransformChain, SlotsAreNamedSavedAndTakenBack) {
  const auto layout = some_tensors();
  TransformChain first({make_l2(1), make_proximal(1)}, layout);
  ASSERT_EQ(first.slots().size(), 1U);
  EXPECT_EQ(first.slots()[0].first, "2.proximal.reference");
  const auto state = random_values(layout, 1);
  first.start(state);

  TransformChain second({make_l2(1), make_proximal(1)}, layout);
  second.start(random_values(layout, 2));
  second.restore(first.slots());
  EXPECT_EQ(second.slots()[0].second.values("a.bias")[3], state.values("a.bias")[3]);
  TransformChain other({make_proximal(1)}, layout);
  EXPECT_THROW(other.restore(first.slots()), Error);
}

/// A split tensor's parts are summed over the ranks that have them.
TEST(TransformChain, PenaltiesAndLengthsAreThoseOfTheWholeTensors) {
  const auto layout = some_tensors();
  const auto twice = [](std::span<const std::string>, std::span<double> sums) {
    for (double& sum : sums) sum *= 2;
  };
  const TrainedParameters half(layout, {}, nullptr, twice);
  const TrainedParameters whole(layout, {});
  const auto state = random_values(layout, 1);
  StateDict gradient(layout);
  const auto penalty = [&](const TrainedParameters& parameters) {
    TransformChain chain({make_l2(1), make_proximal(1)}, layout);
    return chain.apply(state, gradient, 0, parameters);
  };
  EXPECT_DOUBLE_EQ(penalty(half), 2 * penalty(whole));
}

TEST(GradientTransforms, AreMadeByName) {
  Problems problems;
  const Places places;
  const SettingTable table{{"kind", "proximal"}, {"mu", 0.5}};
  Settings settings(table, "transform", places, problems);
  EXPECT_EQ(gradient_transforms().make(settings, "")->name(), "proximal");
  settings.finish();
  EXPECT_TRUE(problems.empty());
  for (const auto& kind : gradient_transforms().document()) EXPECT_FALSE(kind.settings.empty()) << kind.name;
}

}  // namespace
}  // namespace impart::train

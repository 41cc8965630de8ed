#include "impart/train/optimizer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"

namespace impart::train {
namespace {

StateLayoutPtr two_tensors() {
  return std::make_shared<StateLayout>(
      std::vector<StateEntry>{{"conv1.weight", Shape{3}},
                              {"fc.weight", Shape{2}},
                              {"bn.running_mean", Shape{2}, StateKind::kBuffer}});
}

/// Ten steps on f(w) = sum(w^4)/4, whose gradient is w^3, from w = 1, -2, 0.5 ...
StateDict ten_steps(const SettingTable& settings, std::span<const ParameterGroup> groups = {}) {
  StateDict state(two_tensors());
  StateDict gradients(state.layout_ptr());
  float start = 1;
  for (auto& w : state.parameters()) w = (start *= -0.9F);
  Optimizer optimizer(make_optimizer(settings), state.layout_ptr(), groups);
  for (int step = 0; step < 10; ++step) {
    for (std::size_t i = 0; i < state.parameters().size(); ++i) {
      gradients.parameters()[i] = std::pow(state.parameters()[i], 3.0F);
    }
    optimizer.update(state, gradients, 1.0, step);
  }
  return state;
}

/// The same in double precision, by the published recurrence: `rule(step, w, g)` returns the new w.
double ten_steps_by(double w, const std::function<double(int, double, double)>& rule) {
  for (int step = 0; step < 10; ++step) w = rule(step, w, w * w * w);
  return w;
}

TEST(Sgd, IsTheGradientTimesTheRate) {
  const auto state = ten_steps({{"learning_rate", 0.1}, {"weight_decay", 0.01}});
  const double expected =
      ten_steps_by(-0.9, [](int, double w, double g) { return w - 0.1 * (g + 0.01 * w); });
  EXPECT_NEAR(state.values("conv1.weight")[0], expected, 1e-6);
}

TEST(Sgd, MomentumAndNesterovFollowPyTorch) {
  for (const bool nesterov : {false, true}) {
    const auto state = ten_steps(
        {{"learning_rate", 0.1}, {"momentum", 0.9}, {"nesterov", nesterov}, {"weight_decay", 0.01}});
    double velocity = 0;
    const double expected = ten_steps_by(-0.9, [&](int, double w, double g) {
      const double d = g + 0.01 * w;
      velocity = 0.9 * velocity + d;
      return w - 0.1 * (nesterov ? d + 0.9 * velocity : velocity);
    });
    EXPECT_NEAR(state.values("conv1.weight")[0], expected, 1e-6) << "nesterov " << nesterov;
  }
}

TEST(Sgd, NesterovWithoutMomentumIsRefused) { EXPECT_THROW(make_optimizer({{"nesterov", true}}), Error); }

TEST(Adam, CoupledAndDecoupledDecayFollowPyTorch) {
  for (const std::string kind : {"adam", "adamw"}) {
    const auto state = ten_steps({{"kind", kind}, {"learning_rate", 0.05}, {"weight_decay", 0.1}});
    double m = 0;
    double v = 0;
    const double expected = ten_steps_by(-0.9, [&](int step, double w, double g) {
      if (kind == "adam") g += 0.1 * w;
      if (kind == "adamw") w -= 0.05 * 0.1 * w;
      m = 0.9 * m + 0.1 * g;
      v = 0.999 * v + 0.001 * g * g;
      const double mean = m / (1 - std::pow(0.9, step + 1));
      const double square = v / (1 - std::pow(0.999, step + 1));
      return w - 0.05 * mean / (std::sqrt(square) + 1e-8);
    });
    EXPECT_NEAR(state.values("conv1.weight")[0], expected, 1e-5);
  }
}

TEST(Optimizer, GroupsFreezeAndScale) {
  const std::vector<ParameterGroup> groups{{"conv*", 1.0, true}, {"fc.*", 0.5, false}};
  const auto state = ten_steps({{"learning_rate", 0.1}}, groups);
  EXPECT_EQ(state.values("conv1.weight")[0], -0.9F);
  const double start = std::pow(-0.9, 17);  // the padded arena's 17th value
  const double expected = ten_steps_by(start, [](int, double w, double g) { return w - 0.05 * g; });
  EXPECT_NEAR(state.values("fc.weight")[0], expected, 1e-6);
}

TEST(Optimizer, ContinuesFromItsSnapshot) {
  for (const SettingTable& settings :
       {SettingTable{{"kind", "sgd"}, {"momentum", 0.9}}, SettingTable{{"kind", "adam"}},
        SettingTable{{"kind", "adamw"}},
        SettingTable{{"kind", "rmsprop"}, {"momentum", 0.9}, {"centered", true}},
        SettingTable{{"kind", "lars"}}, SettingTable{{"kind", "lamb"}}}) {
    const auto rule = make_optimizer(settings);
    StateDict state(two_tensors());
    StateDict gradients(state.layout_ptr());
    for (auto& g : gradients.parameters()) g = 0.3F;
    Optimizer first(rule, state.layout_ptr(), {});
    first.update(state, gradients, 1.0, 0);
    auto copy = state.clone();
    Optimizer second(rule, state.layout_ptr(), {});
    second.restore(first.kind(), first.slots());
    first.update(state, gradients, 1.0, 1);
    second.update(copy, gradients, 1.0, 1);
    EXPECT_TRUE(std::equal(state.arena().begin(), state.arena().end(), copy.arena().begin()));
    EXPECT_THROW(second.restore("another", first.slots()), Error);
  }
}

/// LARS and LAMB sum over tensors of several pieces, and one that ends within a piece.
TEST(Optimizer, SameBitsForAnyNumberOfThreads) {
  const auto layout = std::make_shared<StateLayout>(
      std::vector<StateEntry>{{"a", Shape{331, 400}}, {"b", Shape{7}}, {"c", Shape{50'001, 2}}});
  StateDict gradients(layout);
  Rng rng(1, "gradients");
  for (auto& g : gradients.parameters()) g = static_cast<float>(rng.normal());
  for (const auto kind : optimizers().names()) {
    const auto rule = make_optimizer({{"kind", kind}});
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 3}) {
      WorkerTeam team(threads);
      StateDict state(layout);
      state.copy_from(gradients);
      Optimizer optimizer(rule, layout, {}, &team);
      for (int step = 0; step < 3; ++step) optimizer.update(state, gradients, 1.0, step);
      results.emplace_back(state.arena().begin(), state.arena().end());
    }
    EXPECT_NE(results[0], std::vector<float>(gradients.arena().begin(), gradients.arena().end()));
    EXPECT_EQ(results[0], results[1]) << kind;
    EXPECT_EQ(results[0], results[2]) << kind;
  }
}

TEST(Patterns, StarAndQuestionMark) {
  EXPECT_TRUE(matches("*", "anything"));
  EXPECT_TRUE(matches("conv*.weight", "conv12.weight"));
  EXPECT_FALSE(matches("conv*.weight", "conv12.bias"));
  EXPECT_TRUE(matches("layer?.0.*", "layer3.0.conv1.weight"));
  EXPECT_FALSE(matches("layer?", "layer"));
  EXPECT_TRUE(matches("*.*.w", "a.b.c.w"));
  EXPECT_FALSE(matches("", "a"));
  EXPECT_TRUE(matches("a**", "a"));
}

}  // namespace
}  // namespace impart::train

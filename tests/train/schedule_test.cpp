#include "impart/train/schedule.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace impart::train {
namespace {

TEST(Schedule, StepCosineAndWarmUp) {
  EXPECT_EQ(make_schedule()->factor(123, 10, 1000), 1.0);
  const auto step = make_schedule({{"kind", "step"}, {"step_epochs", 2}, {"gamma", 0.1}});
  EXPECT_DOUBLE_EQ(step->factor(19, 10, 100), 1.0);
  EXPECT_DOUBLE_EQ(step->factor(20, 10, 100), 0.1);
  EXPECT_NEAR(step->factor(40, 10, 100), 0.01, 1e-12);
  const auto cosine = make_schedule({{"kind", "cosine"}, {"warmup_epochs", 1}, {"final_factor", 0.2}});
  EXPECT_DOUBLE_EQ(cosine->factor(0, 10, 110), 0.1);
  EXPECT_DOUBLE_EQ(cosine->factor(9, 10, 110), 1.0);
  EXPECT_DOUBLE_EQ(cosine->factor(10, 10, 110), 1.0);
  EXPECT_NEAR(cosine->factor(60, 10, 110), 0.6, 1e-12);
  EXPECT_NEAR(cosine->factor(110, 10, 110), 0.2, 1e-12);
}

TEST(Schedule, MultiStepAndPolynomial) {
  const auto steps =
      make_schedule({{"kind", "multi_step"}, {"gamma", 0.5}, {"milestones", std::vector<double>{2, 3.5}}});
  EXPECT_DOUBLE_EQ(steps->factor(19, 10, 100), 1.0);
  EXPECT_DOUBLE_EQ(steps->factor(20, 10, 100), 0.5);
  EXPECT_DOUBLE_EQ(steps->factor(34, 10, 100), 0.5);
  EXPECT_DOUBLE_EQ(steps->factor(35, 10, 100), 0.25);
  const auto polynomial = make_schedule({{"kind", "polynomial"}, {"final_factor", 0.1}, {"power", 2}});
  EXPECT_DOUBLE_EQ(polynomial->factor(0, 10, 100), 1.0);
  EXPECT_NEAR(polynomial->factor(50, 10, 100), 0.1 + 0.9 * 0.25, 1e-12);
  EXPECT_NEAR(polynomial->factor(100, 10, 100), 0.1, 1e-12);
}

/// torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=20) of PyTorch 1.13.
TEST(Schedule, OneCycleIsPyTorchs) {
  const auto options = make_schedule({{"kind", "one_cycle"}});
  const std::vector<std::pair<int, double>> expected{{0, 0.04},
                                                     {1, 0.131671842700025},
                                                     {3, 0.668328157299975},
                                                     {5, 1},
                                                     {6, 0.987464006235087},
                                                     {12, 0.500002},
                                                     {18, 0.0125399937649126},
                                                     {19, 4e-06}};
  for (const auto& [step, factor] : expected) {
    EXPECT_NEAR(options->factor(step, 5, 20), factor, 1e-12) << step;
  }
  EXPECT_TRUE(options->factor(0, 1, 1) > 0);  // as short as can be
}

/// torch.optim.lr_scheduler.ReduceLROnPlateau of PyTorch 1.13 on the same values.
TEST(Schedule, PlateauIsPyTorchs) {
  const std::vector<double> values{1,   0.9,   0.895, 0.9,   0.91,  0.89, 0.88, 0.5,
                                   0.5, 0.499, 0.498, 0.497, 0.497, 0.6,  0.6};
  SettingTable options{
      {"kind", "plateau"}, {"factor", 0.5}, {"patience", 1}, {"threshold", 0.01}, {"cooldown", 1}};
  const auto plateau = make_schedule(options);
  const std::vector<double> lower{1,   1,    1,    0.5,  0.5,   0.5,   0.5,  0.5,
                                  0.5, 0.25, 0.25, 0.25, 0.125, 0.125, 0.125};
  const std::vector<double> higher{1,     1,     0.5,   0.5,    0.5,    0.25,   0.25,   0.25,
                                   0.125, 0.125, 0.125, 0.0625, 0.0625, 0.0625, 0.03125};
  for (std::size_t n = 1; n <= values.size(); ++n) {
    const std::span<const double> seen(values.data(), n);
    EXPECT_DOUBLE_EQ(plateau->measured_factor(seen, true), lower[n - 1]) << n;
    EXPECT_DOUBLE_EQ(plateau->measured_factor(seen, false), higher[n - 1]) << n;
  }
  options.emplace_back("min_factor", 0.4);
  EXPECT_DOUBLE_EQ(make_schedule(options)->measured_factor(values, false), 0.4);
  EXPECT_EQ(make_schedule()->measured_factor(values, false), 1);
}

}  // namespace
}  // namespace impart::train

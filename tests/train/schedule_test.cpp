#include "impart/train/schedule.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace impart::train {
namespace {

TEST(Schedule, StepCosineAndWarmUp) {
  EXPECT_EQ(schedule_factor({}, 123, 10, 1000), 1.0);
  const ScheduleOptions step{.kind = ScheduleKind::kStep, .step_epochs = 2, .gamma = 0.1};
  EXPECT_DOUBLE_EQ(schedule_factor(step, 19, 10, 100), 1.0);
  EXPECT_DOUBLE_EQ(schedule_factor(step, 20, 10, 100), 0.1);
  EXPECT_NEAR(schedule_factor(step, 40, 10, 100), 0.01, 1e-12);
  const ScheduleOptions cosine{.kind = ScheduleKind::kCosine, .warmup_epochs = 1, .final_factor = 0.2};
  EXPECT_DOUBLE_EQ(schedule_factor(cosine, 0, 10, 110), 0.1);
  EXPECT_DOUBLE_EQ(schedule_factor(cosine, 9, 10, 110), 1.0);
  EXPECT_DOUBLE_EQ(schedule_factor(cosine, 10, 10, 110), 1.0);
  EXPECT_NEAR(schedule_factor(cosine, 60, 10, 110), 0.6, 1e-12);
  EXPECT_NEAR(schedule_factor(cosine, 110, 10, 110), 0.2, 1e-12);
}

TEST(Schedule, MultiStepAndPolynomial) {
  const ScheduleOptions steps{.kind = ScheduleKind::kMultiStep, .gamma = 0.5, .milestones = {2, 3.5}};
  EXPECT_DOUBLE_EQ(schedule_factor(steps, 19, 10, 100), 1.0);
  EXPECT_DOUBLE_EQ(schedule_factor(steps, 20, 10, 100), 0.5);
  EXPECT_DOUBLE_EQ(schedule_factor(steps, 34, 10, 100), 0.5);
  EXPECT_DOUBLE_EQ(schedule_factor(steps, 35, 10, 100), 0.25);
  const ScheduleOptions polynomial{.kind = ScheduleKind::kPolynomial, .final_factor = 0.1, .power = 2};
  EXPECT_DOUBLE_EQ(schedule_factor(polynomial, 0, 10, 100), 1.0);
  EXPECT_NEAR(schedule_factor(polynomial, 50, 10, 100), 0.1 + 0.9 * 0.25, 1e-12);
  EXPECT_NEAR(schedule_factor(polynomial, 100, 10, 100), 0.1, 1e-12);
}

/// torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=20) of PyTorch 1.13.
TEST(Schedule, OneCycleIsPyTorchs) {
  const ScheduleOptions options{.kind = ScheduleKind::kOneCycle};
  const std::vector<std::pair<int, double>> expected{{0, 0.04},
                                                     {1, 0.131671842700025},
                                                     {3, 0.668328157299975},
                                                     {5, 1},
                                                     {6, 0.987464006235087},
                                                     {12, 0.500002},
                                                     {18, 0.0125399937649126},
                                                     {19, 4e-06}};
  for (const auto& [step, factor] : expected) {
    EXPECT_NEAR(schedule_factor(options, step, 5, 20), factor, 1e-12) << step;
  }
  EXPECT_TRUE(schedule_factor(options, 0, 1, 1) > 0);  // as short as can be
}

/// torch.optim.lr_scheduler.ReduceLROnPlateau of PyTorch 1.13 on the same values.
TEST(Schedule, PlateauIsPyTorchs) {
  const std::vector<double> values{1,   0.9,   0.895, 0.9,   0.91,  0.89, 0.88, 0.5,
                                   0.5, 0.499, 0.498, 0.497, 0.497, 0.6,  0.6};
  const ScheduleOptions options{
      .kind = ScheduleKind::kPlateau, .factor = 0.5, .patience = 1, .threshold = 0.01, .cooldown = 1};
  const std::vector<double> lower{1,   1,    1,    0.5,  0.5,   0.5,   0.5,  0.5,
                                  0.5, 0.25, 0.25, 0.25, 0.125, 0.125, 0.125};
  const std::vector<double> higher{1,     1,     0.5,   0.5,    0.5,    0.25,   0.25,   0.25,
                                   0.125, 0.125, 0.125, 0.0625, 0.0625, 0.0625, 0.03125};
  for (std::size_t n = 1; n <= values.size(); ++n) {
    const std::span<const double> seen(values.data(), n);
    EXPECT_DOUBLE_EQ(plateau_factor(options, seen, true), lower[n - 1]) << n;
    EXPECT_DOUBLE_EQ(plateau_factor(options, seen, false), higher[n - 1]) << n;
  }
  auto bounded = options;
  bounded.min_factor = 0.4;
  EXPECT_DOUBLE_EQ(plateau_factor(bounded, values, false), 0.4);
  EXPECT_EQ(plateau_factor({}, values, false), 1);
}

}  // namespace
}  // namespace impart::train

#include "impart/share/distil/distil.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"

namespace impart::share {
namespace {

constexpr std::int64_t kClasses = 4;

/// Probabilities of six samples at some temperature.
Tensor teacher_table() {
  Tensor table(Shape{6, kClasses});
  Rng rng(1, "teacher");
  for (std::size_t i = 0; i < 6; ++i) {
    std::vector<float> logits(kClasses);
    for (auto& x : logits) x = static_cast<float>(rng.normal());
    nn::softmax(logits, 1.0F, table.values().subspan(i * kClasses, kClasses));
  }
  return table;
}

const std::vector<float> kOutputs{0.3F, -1.2F, 2.0F, 0.1F, -0.4F, 0.9F, 0.2F, 1.5F};
const std::vector<std::int32_t> kLabels{2, 0};
const std::vector<std::uint64_t> kRows{5, 1};  // not the order of the table

/// (1 - w) CE + w T^2 KL in double precision, straight from the paper.
double by_definition(const Tensor& teacher, double w, double t) {
  double loss = 0;
  for (std::size_t i = 0; i < 2; ++i) {
    const auto probability = [&](std::size_t c, double temperature) {
      double sum = 0;
      for (std::size_t k = 0; k < kClasses; ++k) sum += std::exp(kOutputs[i * kClasses + k] / temperature);
      return std::exp(kOutputs[i * kClasses + c] / temperature) / sum;
    };
    double divergence = 0;
    for (std::size_t c = 0; c < kClasses; ++c) {
      const double p = teacher.values()[kRows[i] * kClasses + c];
      divergence += p * std::log(p / probability(c, t));
    }
    loss +=
        -(1 - w) * std::log(probability(static_cast<std::size_t>(kLabels[i]), 1.0)) + w * t * t * divergence;
  }
  return loss;
}

TEST(Distillation, IsHintonsLossWithTheSquaredTemperature) {
  const auto teacher = teacher_table();
  for (const double t : {1.0, 4.0}) {
    for (const double w : {0.0, 0.3, 1.0}) {
      const auto objective = make_distillation(teacher, {w, t});
      EXPECT_NEAR(objective->evaluate(kOutputs, {kLabels, kRows}, kClasses, 1.0F, {}),
                  by_definition(teacher, w, t), 1e-5);
    }
  }
}

TEST(Distillation, GradientIsThatOfTheLoss) {
  const auto teacher = teacher_table();
  const auto objective = make_distillation(teacher, {0.7, 3.0});
  std::vector<float> gradient(kOutputs.size());
  objective->evaluate(kOutputs, {kLabels, kRows}, kClasses, 0.5F, gradient);
  for (std::size_t i = 0; i < kOutputs.size(); ++i) {
    constexpr float kStep = 1e-2F;
    auto up = kOutputs;
    auto down = kOutputs;
    up[i] += kStep;
    down[i] -= kStep;
    const double slope = (objective->evaluate(up, {kLabels, kRows}, kClasses, 1.0F, {}) -
                          objective->evaluate(down, {kLabels, kRows}, kClasses, 1.0F, {})) /
                         (2.0 * kStep);
    EXPECT_NEAR(gradient[i], 0.5 * slope, 2e-4) << i;
  }
}

TEST(Distillation, StudentThatThinksAsItsTeacherHasNothingToLearn) {
  Tensor teacher(Shape{6, kClasses});
  nn::softmax(std::span(kOutputs).first(kClasses), 2.0F, teacher.values().subspan(5 * kClasses, kClasses));
  const auto objective = make_distillation(teacher, {1.0, 2.0});
  std::vector<float> gradient(kClasses);
  const double loss =
      objective->evaluate(std::span(kOutputs).first(kClasses),
                          {std::span(kLabels).first(1), std::span(kRows).first(1)}, kClasses, 1.0F, gradient);
  EXPECT_NEAR(loss, 0, 1e-6);
  for (const float g : gradient) EXPECT_NEAR(g, 0, 1e-6);
}

TEST(Distillation, RefusesSettingsOutsideTheirRange) {
  const auto teacher = teacher_table();
  EXPECT_THROW(make_distillation(teacher, {1.5, 1.0}), Error);
  EXPECT_THROW(make_distillation(teacher, {0.5, 0.0}), Error);
  EXPECT_THROW(make_distillation(teacher, {std::nan(""), 1.0}), Error);
}

}  // namespace
}  // namespace impart::share

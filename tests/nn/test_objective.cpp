// Losses against formulas and finite differences.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "impart/core/error.hpp"
#include "impart/nn/objective.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kClasses = 5;
const std::vector<double> kWeights{0.5, 2, 1, 0.25, 3};

// The slope of the loss, and of its mixtures, against finite differences. No output lies where a loss bends.
void expect_gradient(const SettingTable& settings) {
  const auto objective = make_objective(settings);
  const std::vector<std::int32_t> labels{0, 4, 2, 2};
  const std::vector<std::int32_t> others{1, 4, 0, 3};
  const std::vector<float> share{0.25F, 0.5F, 1.0F, 0.0F};
  constexpr float kScale = 0.25F;
  for (const bool mixed : {false, true}) {
    SCOPED_TRACE(std::string(objective->kind()) + (mixed ? ", mixed" : ""));
    Targets targets{.labels = labels};
    if (mixed) targets = {.labels = labels, .other_labels = others, .share = share};
    auto outputs = normal_values(4 * kClasses, 1, 2.0);
    std::vector<float> gradient(outputs.size());
    const double loss = objective->evaluate(outputs, targets, kClasses, kScale, gradient);
    EXPECT_EQ(loss, objective->evaluate(outputs, targets, kClasses, 1.0F, {}));
    std::vector<float> slopes;
    for (float& output : outputs) {
      const float value = output;
      output = value + 1e-3F;
      const double above = objective->evaluate(outputs, targets, kClasses, 1.0F, {});
      const auto up = static_cast<double>(output);
      output = value - 1e-3F;
      const double below = objective->evaluate(outputs, targets, kClasses, 1.0F, {});
      slopes.push_back(static_cast<float>(static_cast<double>(kScale) * (above - below) /
                                          (up - static_cast<double>(output))));
      output = value;
    }
    EXPECT_LT(relative_difference(gradient, slopes), 1e-5);
  }
}

TEST(Objective, GradientsAreSlopes) {
  for (const auto name : objectives().names()) expect_gradient(SettingTable{{"kind", name}});
  expect_gradient({{"kind", "huber"}, {"delta", 0.7}});
  expect_gradient({{"kind", "cross_entropy"}, {"label_smoothing", 0.1}, {"class_weights", kWeights}});
  expect_gradient({{"kind", "multiclass_hinge"}, {"margin", 0.8}, {"power", 2}});
  expect_gradient({{"kind", "kl"}, {"label_smoothing", 0.2}});
}

TEST(Objective, AMixtureOfOneLabelIsThatLabel) {
  const auto outputs = normal_values(3 * kClasses, 2);
  const std::vector<std::int32_t> labels{0, 3, 4};
  const std::vector<std::int32_t> others{2, 2, 2};
  const std::vector<float> none{1, 1, 1};
  const std::vector<float> all{0, 0, 0};
  for (const auto name : objectives().names()) {
    const auto objective = make_objective(name);
    const auto loss = [&](const Targets& targets) {
      return objective->evaluate(outputs, targets, kClasses, 1.0F, {});
    };
    EXPECT_EQ(loss({.labels = labels, .other_labels = others, .share = none}), loss({.labels = labels}));
    EXPECT_EQ(loss({.labels = labels, .other_labels = others, .share = all}), loss({.labels = others}));
    EXPECT_THROW(loss({.labels = labels, .other_labels = others, .share = {}}), Error);
  }
}

TEST(Objective, ClassWeightsMustFitTheClasses) {
  const std::vector<float> outputs(6);
  const std::vector<std::int32_t> labels{0, 1};
  const auto objective = make_objective(SettingTable{{"class_weights", std::vector{1.0, 2.0}}});
  EXPECT_THROW((void)objective->evaluate(outputs, {.labels = labels}, 3, 1.0F, {}), Error);
}

TEST(Objective, HingeKnownValues) {
  const std::vector<float> outputs{2, -0.5F, 0.25F};
  const std::vector<std::int32_t> labels{0};
  const auto loss = make_objective("hinge")->evaluate(outputs, {.labels = labels}, 3, 1.0F, {});
  EXPECT_NEAR(loss, (0 + 0.5 + 1.25) / 3, 1e-12);
}

TEST(Objective, KnownValues) {
  const std::vector<float> outputs{0, 0, 0, 0, 2, 0};
  const std::vector<std::int32_t> labels{1, 2};
  const double expected = std::log(3.0) + std::log(2.0 + std::exp(2.0));  // a sum over samples, not a mean
  EXPECT_NEAR(make_cross_entropy()->evaluate(outputs, {.labels = labels}, 3, 1.0F, {}), expected, 1e-12);
  EXPECT_NEAR(make_mean_squared_error()->evaluate(outputs, {.labels = labels}, 3, 1.0F, {}),
              1.0 / 3 + 5.0 / 3, 1e-12);
}

TEST(Objective, LargeOutputsDoNotOverflow) {
  const std::vector<float> outputs{1e30F, -1e30F, 0};
  const std::vector<std::int32_t> labels{0};
  std::vector<float> gradient(3);
  EXPECT_EQ(make_cross_entropy()->evaluate(outputs, {.labels = labels}, 3, 1.0F, gradient), 0.0);
  EXPECT_EQ(gradient, (std::vector<float>{0, 0, 0}));
}

TEST(Objective, NotANumberStaysOne) {
  const std::vector<float> outputs{1, std::numeric_limits<float>::quiet_NaN(), 0};
  const std::vector<std::int32_t> labels{0};
  for (const auto name : objectives().names()) {
    const double loss = make_objective(name)->evaluate(outputs, {.labels = labels}, 3, 1.0F, {});
    EXPECT_TRUE(std::isnan(loss)) << name;
  }
}

TEST(Objective, LabelsOutsideTheClassesAreNamed) {
  const std::vector<float> outputs(6);
  for (const std::int32_t bad : {-1, 3}) {
    const std::vector<std::int32_t> labels{0, bad};
    try {
      make_cross_entropy()->evaluate(outputs, {.labels = labels}, 3, 1.0F, {});
      FAIL() << "label " << bad << " was accepted";
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("expected 0 to 2, got " + std::to_string(bad) + " at sample 1"));
    }
  }
  const std::vector<std::int32_t> too_many{0, 1, 2};
  EXPECT_THROW(make_cross_entropy()->evaluate(outputs, {.labels = too_many}, 3, 1.0F, {}), Error);
}

TEST(Objective, KindsByName) {
  const std::vector<float> outputs{1, 0};
  const std::vector<std::int32_t> labels{0};
  EXPECT_EQ(make_objective("mean_squared_error")->evaluate(outputs, {.labels = labels}, 2, 1.0F, {}), 0.0);
  EXPECT_GT(make_objective("cross_entropy")->evaluate(outputs, {.labels = labels}, 2, 1.0F, {}), 0.3);
  try {
    make_objective("crossentropy");
    FAIL() << "an unknown objective was accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    EXPECT_THAT(e.what(), HasSubstr("did you mean 'cross_entropy'?"));
  }
}

TEST(Objective, SaysWhatOthersAskOfIt) {
  EXPECT_TRUE(make_objective("huber")->is_smooth());
  EXPECT_FALSE(make_objective("l1")->is_smooth());
  EXPECT_FALSE(make_objective("multiclass_hinge")->is_smooth());
  EXPECT_TRUE(make_objective(SettingTable{{"kind", "multiclass_hinge"}, {"power", 2}})->is_smooth());
  EXPECT_EQ(make_objective("kl")->as_cross_entropy(), nullptr);
  const auto weighted = make_objective(SettingTable{{"class_weights", kWeights}});
  ASSERT_NE(weighted->as_cross_entropy(), nullptr);
  EXPECT_EQ(weighted->as_cross_entropy()->class_weights, kWeights);
  EXPECT_EQ(weighted->as_cross_entropy()->label_smoothing, 0);
  for (const auto name : objectives().names()) EXPECT_EQ(make_objective(name)->kind(), name);
}

TEST(Objective, RefusesWhatItDoesNotRead) {
  const auto refused = [](const SettingTable& settings, const char* wanted) {
    try {
      make_objective(settings);
      ADD_FAILURE() << "accepted: " << wanted;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(wanted));
    }
  };
  refused({{"kind", "huber"}, {"delta", 0.0}}, "above 0");
  refused({{"kind", "huber"}, {"margin", 1.0}}, "margin");
  refused({{"kind", "kl"}, {"label_smoothing", 1.0}}, "below 1");
  refused({{"kind", "multiclass_hinge"}, {"power", 3}}, "at most 2");
}

TEST(Objective, SoftmaxAtATemperature) {
  const std::vector<float> logits{1000, 1001, 999};
  std::vector<float> p(3);
  softmax(logits, 2.0F, p);
  const double sum = std::exp(0.5) + 1.0 + std::exp(-0.5);
  EXPECT_NEAR(static_cast<double>(p[0]), 1.0 / sum, 1e-7);
  EXPECT_NEAR(static_cast<double>(p[1]), std::exp(0.5) / sum, 1e-7);
  EXPECT_NEAR(static_cast<double>(p[2]), std::exp(-0.5) / sum, 1e-7);
}

}  // namespace
}  // namespace impart::nn::testing

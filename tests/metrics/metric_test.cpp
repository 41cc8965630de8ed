// What holds for every metric, and how a list of them is read.

#include "impart/metrics/metric.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "impart/core/rng.hpp"
#include "impart/metrics/classification.hpp"

namespace impart::metrics {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kClasses = 12;

void add_random(MetricSum& sum, std::uint64_t first, std::uint64_t last) {
  for (auto i = first; i < last; ++i) {
    Rng rng(5, "answer", i);
    std::vector<float> outputs;
    for (int c = 0; c < kClasses; ++c) outputs.push_back(rng.uniform());
    sum.add({outputs, argmax(outputs), static_cast<std::int32_t>(rng.below(kClasses))});
  }
}

TEST(Metric, MergedPartsEqualTheWhole) {
  for (const auto& entry : classification_metrics().entries()) {
    auto settings = Settings::defaults();
    const auto metric = entry.make(settings);
    metric->check(kClasses);
    const auto whole = metric->start(kClasses);
    const auto part = metric->start(kClasses);
    const auto rest = metric->start(kClasses);
    EXPECT_EQ(whole->value(), 0) << metric->name() << " of nothing";
    add_random(*whole, 0, 200);
    add_random(*part, 0, 30);
    add_random(*rest, 30, 200);
    EXPECT_NE(part->value(), whole->value());
    part->merge(*rest);
    EXPECT_EQ(part->value(), whole->value()) << metric->name();
    EXPECT_GT(whole->value(), 0);
    EXPECT_LT(whole->value(), 1);
  }
}

TEST(Metric, AccuracyIsThePartThatIsRight) {
  const auto sum = default_metrics()[0]->start(3);
  for (const auto& [prediction, label] : {std::pair{0, 0}, {1, 0}, {1, 1}, {1, 1}, {0, 1}, {2, 2}}) {
    sum->add({{}, prediction, label});
  }
  EXPECT_DOUBLE_EQ(sum->value(), 4.0 / 6);
}

std::vector<std::string> names_of(const std::vector<MetricPtr>& metrics) {
  std::vector<std::string> names;
  for (const auto& metric : metrics) names.push_back(metric->name());
  return names;
}

TEST(Metric, AListIsReadOrTheDefaultOnes) {
  const SettingTable table{{"one", SettingArray{"f1_macro"}},
                           {"twice", SettingArray{"accuracy", SettingTable{{"kind", "accuracy"}}}},
                           {"wrong", SettingArray{"acuracy"}}};
  Problems problems;
  const Places places;
  Settings settings(table, "stage.a", places, problems);
  EXPECT_THAT(names_of(read_metrics(settings, "none")), ElementsAre("accuracy", "f1_macro"));
  EXPECT_THAT(names_of(read_metrics(settings, "one")), ElementsAre("f1_macro"));
  EXPECT_THAT(problems.lines(), IsEmpty());
  read_metrics(settings, "twice");
  read_metrics(settings, "wrong");
  EXPECT_THAT(problems.lines(), ElementsAre("stage.a.twice: 'accuracy' is there twice",
                                            HasSubstr("stage.a.wrong[1]: expected accuracy, f1_macro")));
}

}  // namespace
}  // namespace impart::metrics

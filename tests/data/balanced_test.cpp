// Each class equally often, and the samples of a class, too.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "impart/core/error.hpp"
#include "impart/data/batch_loader.hpp"
#include "memory_source.hpp"

namespace impart::data {
namespace {

/// 60, 5 and 1 samples of classes 0, 1 and 3; none of class 2.
DatasetPtr skewed() {
  std::vector<std::int32_t> labels(66, 0);
  std::fill(labels.begin() + 10, labels.begin() + 15, 1);
  labels[40] = 3;
  std::vector<float> values(labels.size(), 0.0F);
  testing_support::MemorySource source(Shape{1}, std::move(values), std::move(labels));
  return read_dataset(comm::Comm::world(), source, "skewed", 4);
}

TEST(Balanced, ClassesComeEquallyOftenInEveryRunOfSteps) {
  const auto dataset = skewed();
  const auto sequence = make_sampler("balanced")->over(dataset, 16, 3);
  std::map<std::int32_t, std::int64_t> classes;
  std::map<std::int64_t, std::int64_t> rows;
  for (std::int64_t step = 0; step < 100; ++step) {
    const auto draws = sequence->draws(step);
    ASSERT_EQ(draws.size(), 16U);
    for (const auto& [row, visit] : draws) {
      ++classes[dataset->label(row)];
      EXPECT_EQ(visit, rows[row]++) << "how often it came before";
    }
    ASSERT_EQ(classes.size(), 3U);
    const auto [least, most] =
        std::ranges::minmax_element(classes, {}, [](const auto& entry) { return entry.second; });
    EXPECT_LE(most->second - least->second, 1);
  }
  ASSERT_EQ(rows.size(), 66U);
  for (const auto& [row, count] : rows) {
    const auto label = dataset->label(row);
    const double each = label == 0 ? 60 : label == 1 ? 5 : 1;
    EXPECT_NEAR(static_cast<double>(count), 1600 / 3.0 / each, 1) << row;
  }
}

TEST(Balanced, NeedsOneLabelEach) {
  const auto text = testing_support::made_up_sequences(comm::Comm::world(), 8, 5, 3);
  EXPECT_THROW(BatchLoader(text, {8, 4, {0, 4}, 3, make_sampler("balanced")}), Error);
}

}  // namespace
}  // namespace impart::data

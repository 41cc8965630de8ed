#include "impart/data/partition.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "impart/core/error.hpp"
#include "memory_source.hpp"

namespace impart::data {
namespace {

using testing_support::made_up_dataset;

/// Every position once.
void expect_complete(const std::vector<Indices>& parts, std::int64_t n) {
  Indices all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  std::sort(all.begin(), all.end());
  Indices expected(static_cast<std::size_t>(n));
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(all, expected);
}

TEST(SplitByDigest, HasExactSizesAndLosesNothing) {
  const auto dataset = made_up_dataset(comm::Comm::world(), 1000, Shape{4}, 10);
  const auto parts = split_by_digest(*dataset, {0.8, 0.2});
  EXPECT_EQ(parts[0].size(), 800U);
  EXPECT_EQ(parts[1].size(), 200U);
  expect_complete(parts, 1000);
}

TEST(SplitByDigest, FollowsTheSamplesAndNotTheirOrder) {
  const auto dataset = made_up_dataset(comm::Comm::world(), 200, Shape{4}, 10);
  Indices reversed(200);
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  const auto backwards = subset(dataset, reversed);
  const auto ids = [](const Dataset& d, const Indices& part) {
    std::set<std::uint64_t> result;
    for (const auto i : part) result.insert(d.id(i));
    return result;
  };
  EXPECT_EQ(ids(*dataset, split_by_digest(*dataset, {0.3})[0]),
            ids(*backwards, split_by_digest(*backwards, {0.3})[0]));
}

TEST(SplitInOrder, LeavesAGapBetweenRuns) {
  const auto dataset = made_up_dataset(comm::Comm::world(), 100, Shape{4}, 5);
  const auto parts = split_in_order(*dataset, {0.5, 0.3, 0.2}, 3);
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[0].size(), 50U);
  EXPECT_EQ(parts[1].front(), 53);
  EXPECT_EQ(parts[1].back(), 79);
  EXPECT_EQ(parts[2].front(), 83);
  EXPECT_EQ(parts[2].back(), 99);
  for (const auto& part : parts)
    EXPECT_EQ(part.back() - part.front() + 1, static_cast<std::int64_t>(part.size()));
  // No gap where nothing comes before, and no samples where the gap takes all.
  EXPECT_EQ(split_in_order(*dataset, {0, 0.5}, 3)[1].front(), 0);
  EXPECT_TRUE(split_in_order(*dataset, {0.5, 0.02}, 3)[1].empty());
}

TEST(LimitPerClass, TakesSoManyOfEach) {
  const auto dataset = made_up_dataset(comm::Comm::world(), 100, Shape{4}, 5);
  std::vector<int> counts(5);
  for (const auto i : limit_per_class(*dataset, 7)) ++counts[static_cast<std::size_t>(dataset->label(i))];
  EXPECT_EQ(counts, std::vector<int>(5, 7));
  EXPECT_THROW(limit_per_class(*dataset, 21), Error);
}

TEST(PartitionIid, SizesDifferByOneAtMost) {
  const auto dataset = made_up_dataset(comm::Comm::world(), 103, Shape{1}, 10);
  const auto parts = partition_iid(*dataset, 10, 5);
  expect_complete(parts, 103);
  for (const auto& part : parts) EXPECT_NEAR(static_cast<double>(part.size()), 10.3, 0.71);
  EXPECT_NE(parts, partition_iid(*dataset, 10, 6));
}

TEST(PartitionDirichlet, SmallAlphaGivesFewClassesEach) {
  const auto dataset = made_up_dataset(comm::Comm::world(), 2000, Shape{1}, 10);
  // The mean share of a part's largest class: 0.1 when all are alike.
  const auto concentration = [&](double alpha) {
    const auto parts = partition_dirichlet(*dataset, 10, alpha, 5, 3);
    expect_complete(parts, 2000);
    double sum = 0;
    for (const auto& part : parts) {
      EXPECT_GE(part.size(), 5U);
      std::vector<double> counts(10);
      for (const auto i : part) ++counts[static_cast<std::size_t>(dataset->label(i))];
      sum += *std::max_element(counts.begin(), counts.end()) / static_cast<double>(part.size());
    }
    return sum / 10;
  };
  EXPECT_GT(concentration(0.1), 0.4);
  EXPECT_LT(concentration(1000), 0.14);
}

TEST(PartitionDirichlet, SaysWhenNoPartitionIsLargeEnough) {
  const auto dataset = made_up_dataset(comm::Comm::world(), 20, Shape{1}, 2);
  EXPECT_THROW(partition_dirichlet(*dataset, 10, 0.01, 2, 1), Error);
}

}  // namespace
}  // namespace impart::data

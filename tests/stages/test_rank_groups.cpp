#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runner/rank_groups.hpp"

#include "impart/stages/ranks.hpp"

namespace impart::runner {
namespace {

using testing::ElementsAre;

void expect_group(const RankGroup& group, int ranks, const std::vector<std::size_t>& stages) {
  EXPECT_EQ(group.ranks, ranks);
  EXPECT_EQ(group.stages, stages);
}

TEST(RankGroups, EqualStagesRunBesideEachOther) {
  const auto groups = deal_ranks({{0, 10.0, 0}, {1, 10.0, 0}}, 2, 8);
  ASSERT_EQ(groups.size(), 2U);
  expect_group(groups[0], 1, {0});
  expect_group(groups[1], 1, {1});
}

TEST(RankGroups, UnequalStagesRunOneAfterAnother) {
  const auto groups = deal_ranks({{4, 10.0, 0}, {5, 2.0, 0}}, 2, 8);
  ASSERT_EQ(groups.size(), 1U);
  expect_group(groups[0], 2, {4});
}

TEST(RankGroups, ShortStagesShareAGroup) {
  const auto groups = deal_ranks({{0, 5.0, 0}, {1, 10.0, 0}, {2, 5.0, 0}}, 4, 8);
  ASSERT_EQ(groups.size(), 2U);
  expect_group(groups[0], 2, {1});
  expect_group(groups[1], 2, {0, 2});
}

TEST(RankGroups, WhatCostsLittleGoesFirstOnAllRanks) {
  const auto groups = deal_ranks({{3, 0.0, 0}, {4, 10.0, 0}, {5, 10.0, 0}}, 4, 8);
  ASSERT_EQ(groups.size(), 1U);
  expect_group(groups[0], 4, {3});
}

TEST(RankGroups, WishesAreGrantedAsFarAsRanksGo) {
  const auto groups = deal_ranks({{0, 1.0, 2}, {1, 7.0, 0}, {2, 1.0, 4}}, 4, 8);
  ASSERT_EQ(groups.size(), 2U);
  expect_group(groups[0], 2, {0});
  expect_group(groups[1], 2, {1});
}

TEST(RankGroups, NoGroupIsTooSmallForItsStages) {
  const auto two = deal_ranks({{0, 10.0, 0, 2}, {1, 10.0, 0}}, 2, 8);
  ASSERT_EQ(two.size(), 1U);
  expect_group(two[0], 2, {0});
  const auto four = deal_ranks({{0, 10.0, 0, 2}, {1, 10.0, 0, 2}}, 4, 8);
  ASSERT_EQ(four.size(), 2U);
  expect_group(four[0], 2, {0});
  expect_group(four[1], 2, {1});
  // One rank is left: it goes to who can do with it.
  const auto left = deal_ranks({{0, 1.0, 1}, {1, 9.0, 0, 2}, {2, 5.0, 0}}, 2, 8);
  ASSERT_EQ(left.size(), 2U);
  expect_group(left[0], 1, {0});
  expect_group(left[1], 1, {2});
  const auto waits = deal_ranks({{0, 1.0, 1}, {1, 9.0, 0, 2}}, 2, 8);
  ASSERT_EQ(waits.size(), 1U);
  expect_group(waits[0], 1, {0});
}

TEST(RankGroups, SizesAreThoseThatTheShardsAllow) {
  const auto groups = deal_ranks({{0, 1.0, 0}, {1, 1.0, 0}}, 8, 2);
  ASSERT_EQ(groups.size(), 2U);
  EXPECT_EQ(groups[0].ranks, 2);
  stages::StageSettings stage;
  stage.settings = stages::TrainSettings{};
  for (const auto& [setting, wanted] : {std::pair{0.3, 2}, {0.01, 1}, {3.0, 3}, {0.0, 0}}) {
    stage.ranks = setting;
    EXPECT_EQ(stages::wanted_ranks(stage, 8, 8), wanted) << setting;
  }
  std::get<stages::TrainSettings>(stage.settings).training.mesh.tensor =
      2;  // whoever has a mesh has all ranks
  EXPECT_EQ(stages::wanted_ranks(stage, 8, 8), 8);
  stage.ranks = 4;
  EXPECT_EQ(stages::wanted_ranks(stage, 8, 8), 4);
}

}  // namespace
}  // namespace impart::runner

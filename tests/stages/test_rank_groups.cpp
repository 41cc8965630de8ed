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

class AStage final : public stages::Stage {
 public:
  explicit AStage(comm::MeshShape mesh) : mesh_(mesh) {}
  [[nodiscard]] stages::StageUses uses() const override { return {}; }
  [[nodiscard]] std::string describe() const override { return ""; }
  [[nodiscard]] comm::MeshShape mesh() const override { return mesh_; }
  std::optional<stages::ModelOutline> check(stages::CheckContext& /*context*/) const override { return {}; }
  stages::StageResult run(stages::RunContext& /*context*/) const override { return {}; }

 private:
  comm::MeshShape mesh_;
};

TEST(RankGroups, SizesAreThoseThatTheShardsAllow) {
  const auto groups = deal_ranks({{0, 1.0, 0}, {1, 1.0, 0}}, 8, 2);
  ASSERT_EQ(groups.size(), 2U);
  EXPECT_EQ(groups[0].ranks, 2);
  const auto wanted = [](double setting, comm::MeshShape mesh) {
    AStage stage(mesh);
    stage.set_common({"", "", "", setting, ""});
    return stages::wanted_ranks(stage, 8, 8);
  };
  for (const auto& [setting, expected] : {std::pair{0.3, 2}, {0.01, 1}, {3.0, 3}, {0.0, 0}}) {
    EXPECT_EQ(wanted(setting, {}), expected) << setting;
  }
  EXPECT_EQ(wanted(0, {.tensor = 2}), 8);  // whoever has a mesh has all ranks
  EXPECT_EQ(wanted(4, {.tensor = 2}), 4);
}

}  // namespace
}  // namespace impart::runner

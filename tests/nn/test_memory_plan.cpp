// MemoryPlan: arrays that live at the same moment never share memory, others do.
#include "nn/memory_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "impart/core/rng.hpp"

namespace impart::nn {
namespace {

struct Life {
  std::size_t count;
  int first;
  int last;
};

MemoryPlan planned(const std::vector<Life>& lives) {
  MemoryPlan plan;
  for (const auto& life : lives) plan.add(life.count, life.first, life.last);
  plan.place();
  return plan;
}

TEST(MemoryPlan, AChainNeedsTwoArrays) {
  const auto plan = planned({{64, 0, 1}, {64, 1, 2}, {64, 2, 3}, {64, 3, 4}});
  EXPECT_EQ(plan.total(), 128U);
}

TEST(MemoryPlan, ALongerLifeKeepsItsPlace) {
  MemoryPlan plan;
  const auto kept = plan.add(64, 0, 1);
  const auto later = plan.add(64, 2, 3);
  plan.extend(kept, 3, 3);
  plan.place();
  EXPECT_EQ(plan.total(), 128U);
  EXPECT_NE(plan.offset(kept), plan.offset(later));
}

TEST(MemoryPlan, NothingOverlapsAndLittleIsWasted) {
  Rng rng(3, "test");
  for (int round = 0; round < 50; ++round) {
    std::vector<Life> lives;
    for (int i = 0; i < 60; ++i) {
      const int first = static_cast<int>(rng.below(40));
      lives.push_back({1 + rng.below(500), first, first + static_cast<int>(rng.below(10))});
    }
    const auto plan = planned(lives);
    std::size_t busiest = 0;
    for (int moment = 0; moment < 50; ++moment) {
      std::size_t alive = 0;
      for (std::size_t i = 0; i < lives.size(); ++i) {
        if (lives[i].first <= moment && moment <= lives[i].last) alive += plan.size(i);
      }
      busiest = std::max(busiest, alive);
    }
    EXPECT_GE(plan.total(), busiest);
    EXPECT_LE(plan.total(), busiest + busiest / 2);
    for (std::size_t i = 0; i < lives.size(); ++i) {
      EXPECT_EQ(plan.offset(i) % 16, 0U);
      for (std::size_t j = 0; j < i; ++j) {
        const bool together = lives[i].first <= lives[j].last && lives[j].first <= lives[i].last;
        const bool apart = plan.offset(i) + lives[i].count <= plan.offset(j) ||
                           plan.offset(j) + lives[j].count <= plan.offset(i);
        EXPECT_TRUE(apart || !together);
      }
    }
  }
}

}  // namespace
}  // namespace impart::nn

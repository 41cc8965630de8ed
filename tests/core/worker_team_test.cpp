#include "impart/core/worker_team.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace impart {
namespace {

TEST(WorkerTeam, EveryWorkerRunsOnceARound) {
  for (const int size : {1, 2, 5}) {
    WorkerTeam team(size);
    EXPECT_EQ(team.size(), size);
    std::vector<int> rounds(static_cast<std::size_t>(size));  // each written by its own worker alone
    for (int round = 1; round <= 200; ++round) {
      team.run([&](int worker) { ++rounds[static_cast<std::size_t>(worker)]; });
      ASSERT_EQ(rounds, std::vector<int>(static_cast<std::size_t>(size), round));
    }
  }
}

TEST(WorkerTeam, WorkerZeroIsTheCaller) {
  WorkerTeam team(3);
  std::vector<std::thread::id> ids(3);
  team.run([&](int worker) { ids[static_cast<std::size_t>(worker)] = std::this_thread::get_id(); });
  EXPECT_EQ(ids[0], std::this_thread::get_id());
  EXPECT_NE(ids[1], ids[0]);
  EXPECT_NE(ids[1], ids[2]);
}

TEST(WorkerTeam, ThrowsTheLowestWorkersErrorAfterAllAreDone) {
  WorkerTeam team(4);
  std::atomic<int> done = 0;
  try {
    team.run([&](int worker) {
      ++done;
      if (worker >= 2) throw std::runtime_error("worker " + std::to_string(worker));
    });
    FAIL() << "two workers threw";
  } catch (const std::runtime_error& e) {
    EXPECT_STREQ(e.what(), "worker 2");
  }
  EXPECT_EQ(done, 4);
  EXPECT_NO_THROW(team.run([](int) {})) << "an error belongs to its round";
}

}  // namespace
}  // namespace impart

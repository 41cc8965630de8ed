#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "impart/app/process.hpp"

namespace impart::app {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Cores, EnoughOfThemAreNoWarning) {
  EXPECT_EQ(too_few_cores({.mine = 8, .sharing = 4, .ranks = 4, .of_node = 8}, 2), "");
  EXPECT_EQ(too_few_cores({.mine = 1, .sharing = 1, .ranks = 8, .of_node = 8}, 1), "");
}

TEST(Cores, RanksThatAreBoundToOneCoreAreSpread) {
  const auto line = too_few_cores({.mine = 1, .sharing = 2, .ranks = 2, .of_node = 8}, 1);
  EXPECT_EQ(line,
            "2 ranks of 1 thread share 1 core, which slows all of them: give each cores of its own, with "
            "`mpirun --bind-to core --map-by slot:PE=1` or `srun --cpu-bind=cores --cpus-per-task=1`");
  EXPECT_THAT(
      too_few_cores({.mine = 1, .sharing = 1, .ranks = 2, .of_node = 8}, 4),
      HasSubstr("1 rank of 4 threads has 1 core, which slows all of them: give each cores of its own, "
                "with `mpirun --bind-to core --map-by slot:PE=4`"));
}

TEST(Cores, TooManyRanksOrThreadsAreMadeFewer) {
  EXPECT_THAT(too_few_cores({.mine = 2, .sharing = 4, .ranks = 4, .of_node = 2}, 1),
              testing::AllOf(HasSubstr("4 ranks of 1 thread share 2 cores"),
                             HasSubstr("start at most 2 ranks on a node of 2 cores"), HasSubstr("slot:PE=1"),
                             Not(HasSubstr("--threads"))));
  EXPECT_THAT(too_few_cores({.mine = 8, .sharing = 4, .ranks = 4, .of_node = 8}, 4),
              testing::AllOf(HasSubstr("start at most 2 ranks on a node of 8 cores"), HasSubstr("slot:PE=4"),
                             HasSubstr(", or lower --threads to 2")));
  EXPECT_EQ(too_few_cores({.mine = 2, .sharing = 2, .ranks = 2, .of_node = 2}, 8),
            "2 ranks of 8 threads share 2 cores, which slows all of them: lower --threads to 1");
}

}  // namespace
}  // namespace impart::app

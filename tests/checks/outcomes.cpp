// One test of each outcome, for tests/checks/test_outcomes.py to choose from.

#include <gtest/gtest.h>

TEST(Outcome, Passes) { EXPECT_EQ(1 + 1, 2); }
TEST(Outcome, Skips) { GTEST_SKIP() << "as it should"; }
TEST(Outcome, Fails) { EXPECT_EQ(1 + 1, 3); }

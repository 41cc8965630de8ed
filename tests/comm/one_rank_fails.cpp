// A test that fails on the last rank only, to show that mpi_test_main does not lose it.

#include <gtest/gtest.h>

#include "impart/comm/comm.hpp"

TEST(OneRank, Fails) {
  const auto world = impart::comm::Comm::world();
  EXPECT_LT(world.rank(), world.size() - 1);
}

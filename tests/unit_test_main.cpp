// GoogleTest's main, with an exit code that tells CTest failed and skipped apart.

#include <gtest/gtest.h>

#include "test_outcome.hpp"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return impart::testing_support::outcome(RUN_ALL_TESTS());
}

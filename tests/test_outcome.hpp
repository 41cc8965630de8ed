// What a test program's exit code says to CTest.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>

namespace impart::testing_support {

constexpr int kPassed = 0;
constexpr int kFailed = 1;
constexpr int kSkipped = 77;  // CTest's SKIP_RETURN_CODE, see tests/CMakeLists.txt

/// Of one process, after RUN_ALL_TESTS() has returned `failed`. A failure beside a skipped test is a failure;
/// a program counts as skipped only when all of its tests were; and one without tests has shown nothing.
inline int outcome(int failed) {
  const auto& unit = *testing::UnitTest::GetInstance();
  if (failed != 0 || unit.failed_test_count() > 0) return kFailed;
  if (GTEST_FLAG_GET(list_tests)) return kPassed;
  if (unit.test_to_run_count() == 0) {
    std::fprintf(stderr, "no test was run: the filter '%s' matches none\n", GTEST_FLAG_GET(filter).c_str());
    return kFailed;
  }
  return unit.skipped_test_count() == unit.test_to_run_count() ? kSkipped : kPassed;
}

}  // namespace impart::testing_support

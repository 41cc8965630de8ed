// GoogleTest's main with MPI around it. Every rank runs every test; the failures of all ranks are printed by
// rank 0, tagged with their rank, and a failure anywhere fails the program everywhere. It counts as skipped only
// when no rank has run anything.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "impart/comm/comm.hpp"
#include "impart/core/log.hpp"
#include "test_outcome.hpp"

namespace {

/// Collects this rank's failures as text.
class Collector : public testing::EmptyTestEventListener {
 public:
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    failures_ += std::string(result.file_name() == nullptr ? "?" : result.file_name()) + ":" +
                 std::to_string(result.line_number()) + ": " + result.message() + "\n";
  }
  [[nodiscard]] const std::string& failures() const { return failures_; }

 private:
  std::string failures_;
};

}  // namespace

int main(int argc, char** argv) {
  impart::comm::MpiSession session(&argc, &argv);
  testing::InitGoogleTest(&argc, argv);
  const auto world = impart::comm::Comm::world();
  impart::log::configure(world.rank(), world.size());

  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  if (!world.is_root()) delete listeners.Release(listeners.default_result_printer());
  auto* collector = new Collector;  // the list of listeners owns it
  listeners.Append(collector);

  using impart::testing_support::kFailed;
  using impart::testing_support::kPassed;
  using impart::testing_support::kSkipped;
  const int mine = impart::testing_support::outcome(RUN_ALL_TESTS());
  const auto texts = world.gather_strings(collector->failures(), "test failures");
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    if (!texts[rank].empty()) std::fprintf(stderr, "[rank %zu] %s", rank, texts[rank].c_str());
  }
  const auto of_all = world.gather_all(mine, "test outcomes");
  if (std::ranges::count(of_all, kFailed) > 0) return kFailed;
  return std::ranges::count(of_all, kSkipped) == world.size() ? kSkipped : kPassed;
}

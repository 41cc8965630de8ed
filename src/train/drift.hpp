// DriftCheck: finds out when ranks that should have equal weights no longer have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "impart/comm/comm.hpp"
#include "impart/core/state_dict.hpp"

namespace impart::train {

/// Every rank's hash of the weights rides on a sum that is made anyway: hashes are cut into pieces, and each
/// rank adds its pieces with a sign, such that equal ones cancel. Signs are drawn anew for each check, so
/// that two ranks that differ in the same way are found, too, if not at the first check. Sums are exact, for
/// the pieces are small integers.
class DriftCheck {
 public:
  static constexpr std::size_t kLanes = 4;  ///< floats that it needs in the sum

  /// Every so many steps; 0: never. Borrows `comm`. `all_ranks`: these are all ranks of the run, so that an
  /// error is known to all; otherwise the job has to be ended for the others' sake.
  DriftCheck(const comm::Comm& comm, int every, bool all_ranks = true);

  [[nodiscard]] bool is_due(std::int64_t step) const;
  /// What this rank adds to the sum at `step`.
  void put(const StateDict& state, std::int64_t step, std::span<float, kLanes> lanes) const;
  /// After the sum at `step`. Throws Error, on all ranks, when weights differ: it names the first tensor, the
  /// ranks, and the steps between which it happened. Collective only then.
  void verify(const StateDict& state, std::int64_t step, std::span<const float, kLanes> lanes);

 private:
  void fail(const StateDict& state, std::int64_t step) const;

  const comm::Comm& comm_;
  int every_;
  bool all_ranks_;
  std::int64_t equal_at_ = -1;  // the last step at which all was well
};

}  // namespace impart::train

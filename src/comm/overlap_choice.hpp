// OverlapChoice: finds out in the first rounds who should drive a reduction.
#pragma once

#include <cstddef>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/comm/reduction.hpp"
#include "impart/core/clock.hpp"

namespace impart::comm {

/// Takes the candidates in turn, a few rounds each, and then the one whose best round was the fastest on the
/// slowest rank: a later one only when it is worth its while. All ranks take the same in each round.
class OverlapChoice {
 public:
  /// `candidates`: the simplest first, at least one. Borrows `comm`.
  OverlapChoice(const Comm& comm, std::vector<Overlap> candidates);

  [[nodiscard]] Overlap current() const noexcept { return candidates_[current_]; }
  /// Whether that stays so.
  [[nodiscard]] bool is_made() const noexcept;
  void begin() { start_ = Clock::now(); }
  /// Collective in one of the first rounds.
  void end();

 private:
  const Comm& comm_;
  std::vector<Overlap> candidates_;
  std::vector<double> best_;  // seconds
  std::size_t current_ = 0;
  std::size_t rounds_ = 0;
  Clock::time_point start_;
};

}  // namespace impart::comm

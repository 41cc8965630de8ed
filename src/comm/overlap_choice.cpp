#include "comm/overlap_choice.hpp"

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "impart/core/clock.hpp"

namespace impart::comm {

namespace {

constexpr std::size_t kTrials = 4;  // of each candidate; the first of them warms up
// What a few rounds differ by when nothing does: a thread that was chosen for less can take a core from those
// that compute.
constexpr double kWorthwhile = 0.98;

}  // namespace

OverlapChoice::OverlapChoice(const Comm& comm, std::vector<Overlap> candidates)
    : comm_(comm),
      candidates_(std::move(candidates)),
      best_(candidates_.size(), std::numeric_limits<double>::max()) {}

bool OverlapChoice::is_made() const noexcept {
  return candidates_.size() == 1 || rounds_ == kTrials * candidates_.size();
}

void OverlapChoice::end() {
  const auto count = candidates_.size();
  if (is_made()) return;
  if (rounds_ >= count) {
    const double seconds = seconds_since(start_);
    best_[current_] = std::min(best_[current_], seconds);
  }
  current_ = ++rounds_ % count;
  if (rounds_ < kTrials * count) return;
  comm_.max_in_place(std::span(best_), "choice of overlap");
  current_ = 0;
  for (std::size_t i = 1; i < count; ++i) {
    if (best_[i] < kWorthwhile * best_[current_]) current_ = i;
  }
}

}  // namespace impart::comm

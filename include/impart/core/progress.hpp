// ProgressLine: how far a long loop is, without flooding a log file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "impart/core/clock.hpp"

namespace impart {

enum class ProgressMode {
  kAuto,   ///< kBar when standard error is a terminal, else kPlain
  kBar,    ///< one line, redrawn in place, with rate and time left
  kPlain,  ///< a whole line every few seconds
  kNone,
};

/// Parses "auto", "bar", "plain" or "none". Throws Error (usage) for any other word.
ProgressMode parse_progress_mode(std::string_view word);

/// One loop of `total` units on standard error. Only the rank that should speak is given a mode other than
/// kNone. Not for use from several threads.
class ProgressLine {
 public:
  /// `label`: "teacher_a"; `unit`: what is counted, "samples".
  ProgressLine(ProgressMode mode, std::string label, std::string unit, std::int64_t total);
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine();  ///< ends the bar's line

  /// `done` units of the total; `note`: what else to show, "epoch 2/5 loss 0.31". Rate and time left count
  /// from the first call, which is best made when nothing is done.
  void update(std::int64_t done, std::string_view note);

 private:
  void draw(std::int64_t done, std::string_view note, double seconds);

  ProgressMode mode_;
  std::string label_;
  std::string unit_;
  std::int64_t total_;
  std::int64_t first_ = -1;  // units that were done before this process began, after a restart
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
  bool drawn_ = false;
};

}  // namespace impart

#include "impart/core/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "impart/core/error.hpp"

namespace impart {

namespace {

constexpr std::chrono::milliseconds kBarInterval{100};
constexpr std::chrono::seconds kPlainInterval{5};
constexpr int kBarWidth = 24;

std::string clock_text(double seconds) {
  const auto s = static_cast<long>(seconds + 0.5);
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
                   : fmt::format("{}:{:02}", s / 60, s % 60);
}

// Of what is slow, the rate in a longer time.
std::string rate_text(double per_second, const std::string& unit) {
  if (per_second >= 10) return fmt::format("{:.0f} {}/s", per_second, unit);
  if (per_second >= 1) return fmt::format("{:.1f} {}/s", per_second, unit);
  const double per_minute = 60 * per_second;
  return per_minute >= 1 ? fmt::format("{:.1f} {}/min", per_minute, unit)
                         : fmt::format("{:.1f} {}/h", 60 * per_minute, unit);
}

}  // namespace

ProgressMode parse_progress_mode(std::string_view word) {
  if (word == "auto") return ProgressMode::kAuto;
  if (word == "bar") return ProgressMode::kBar;
  if (word == "plain") return ProgressMode::kPlain;
  if (word == "none") return ProgressMode::kNone;
  throw Error("unknown progress mode", ErrorKind::kUsage)
      .at("--progress")
      .expected("auto, bar, plain or none")
      .got("'" + std::string(word) + "'");
}

ProgressLine::ProgressLine(ProgressMode mode, std::string label, std::string unit, std::int64_t total)
    : mode_(mode), label_(std::move(label)), unit_(std::move(unit)), total_(total) {
  if (mode_ == ProgressMode::kAuto) {
    mode_ = isatty(STDERR_FILENO) != 0 ? ProgressMode::kBar : ProgressMode::kPlain;
  }
}

ProgressLine::~ProgressLine() {
  if (drawn_ && mode_ == ProgressMode::kBar) std::fputs("\r\033[K", stderr);
}

void ProgressLine::update(std::int64_t done, std::string_view note) {
  if (mode_ == ProgressMode::kNone) return;
  const auto now = Clock::now();
  if (first_ < 0) first_ = done;
  const auto interval =
      mode_ == ProgressMode::kBar ? Clock::duration(kBarInterval) : Clock::duration(kPlainInterval);
  if (now - last_ < interval) return;
  last_ = now;
  draw(done, note, seconds_since(start_));
}

void ProgressLine::draw(std::int64_t done, std::string_view note, double seconds) {
  const double part = total_ > 0 ? static_cast<double>(done) / static_cast<double>(total_) : 1.0;
  auto tail = fmt::format("{:3.0f}%  {}", 100 * part, note);
  if (done > first_) {
    const double each = seconds / static_cast<double>(done - first_);
    tail += fmt::format("  {}  {} left", rate_text(1 / std::max(each, 1e-9), unit_),
                        clock_text(each * static_cast<double>(total_ - done)));
  }
  if (mode_ == ProgressMode::kBar) {
    const int filled = std::clamp(static_cast<int>(part * kBarWidth), 0, kBarWidth);
    fmt::print(stderr, "\r\033[K{} [{:#<{}}{:.<{}}] {}", label_, "", filled, "", kBarWidth - filled, tail);
    std::fflush(stderr);
  } else {
    fmt::print(stderr, "{} {}\n", label_, tail);
  }
  drawn_ = true;
}

}  // namespace impart

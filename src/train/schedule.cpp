#include "impart/train/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace impart::train {

namespace {

// From `start` to `end` along half a cosine, as `done` goes from 0 to 1.
double along_cosine(double start, double end, double done) {
  return end + (start - end) / 2 * (1 + std::cos(std::numbers::pi * done));
}

double one_cycle(const ScheduleOptions& options, double step, double total) {
  const double top = std::max(options.pct_start * total - 1, 0.0);
  const double last = std::max(total - 1, top + 1);
  const double first = 1 / options.div_factor;
  if (step < top) return along_cosine(first, 1, step / top);
  return along_cosine(1, first / options.final_div_factor, std::min(1.0, (step - top) / (last - top)));
}

}  // namespace

double schedule_factor(const ScheduleOptions& options, std::int64_t step, std::int64_t steps_per_epoch,
                       std::int64_t total_steps) {
  const double now = static_cast<double>(step);
  const double per_epoch = static_cast<double>(std::max<std::int64_t>(steps_per_epoch, 1));
  const double warmup = std::floor(options.warmup_epochs * per_epoch);
  // The first step already moves, the last step of the warm-up has the full rate.
  if (now < warmup) return (now + 1) / warmup;
  const double length = std::max(1.0, static_cast<double>(total_steps) - warmup);
  const double done = std::min(1.0, (now - warmup) / length);
  switch (options.kind) {
    case ScheduleKind::kConstant:
    case ScheduleKind::kPlateau:
      return 1.0;
    case ScheduleKind::kStep:
      return std::pow(options.gamma, std::floor(now / per_epoch / options.step_epochs));
    case ScheduleKind::kMultiStep: {
      const auto passed = std::ranges::upper_bound(options.milestones, now / per_epoch);
      return std::pow(options.gamma, static_cast<double>(passed - options.milestones.begin()));
    }
    case ScheduleKind::kCosine:
      // Loshchilov and Hutter 2017, eq. 5, without restarts.
      return along_cosine(1, options.final_factor, done);
    case ScheduleKind::kPolynomial:
      return options.final_factor + (1 - options.final_factor) * std::pow(1 - done, options.power);
    case ScheduleKind::kOneCycle:
      return one_cycle(options, now - warmup, length);
  }
  return 1.0;
}

double plateau_factor(const ScheduleOptions& options, std::span<const double> values, bool lower_is_better) {
  if (options.kind != ScheduleKind::kPlateau || values.empty()) return 1;
  double result = 1;
  double best = values.front();
  int without_gain = 0;
  int cooling = 0;
  for (const double value : values.subspan(1)) {
    const bool better =
        lower_is_better ? value < best * (1 - options.threshold) : value > best * (1 + options.threshold);
    without_gain = better ? 0 : without_gain + 1;
    if (better) best = value;
    if (cooling > 0) {
      --cooling;
      without_gain = 0;
    }
    if (without_gain > options.patience) {
      result = std::max(result * options.factor, options.min_factor);
      cooling = options.cooldown;
      without_gain = 0;
    }
  }
  return result;
}

}  // namespace impart::train

#include "impart/train/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "train/schedules/schedules.hpp"

namespace impart::train {

namespace {

constexpr Registry<SchedulePtr>::Entry kSchedules[] = {
    {"constant", "the full rate", make_constant},
    {"step", "times gamma after each so many epochs", make_step},
    {"multi_step", "times gamma after given epochs", make_multi_step},
    {"cosine", "down along half a cosine", make_cosine},
    {"polynomial", "down along a power of what is left", make_polynomial},
    {"one_cycle", "up to the full rate, and down far below where it began (Smith and Topin 2019)",
     make_one_cycle},
    {"plateau", "down when the monitored metric gets no better", make_plateau},
};

}  // namespace

const Registry<SchedulePtr>& schedules() {
  static const Registry<SchedulePtr> registry("schedule", kSchedules);
  return registry;
}

SchedulePtr make_schedule(const SettingTable& table) {
  return read_settings(table, "schedule",
                       [](Settings& settings) { return schedules().make(settings, kDefaultSchedule); });
}

double along_cosine(double start, double end, double done) {
  return end + (start - end) / 2 * (1 + std::cos(std::numbers::pi * done));
}

Schedule::Schedule(Settings& settings) {
  settings.read("warmup_epochs", warmup_epochs_, at_least(0).in("epochs"),
                "in which the rate rises from 0 to the full one");
}

double Schedule::factor(std::int64_t step, std::int64_t steps_per_epoch, std::int64_t total_steps) const {
  const double now = static_cast<double>(step);
  const double per_epoch = static_cast<double>(std::max<std::int64_t>(steps_per_epoch, 1));
  const double warmup = std::floor(warmup_epochs_ * per_epoch);
  // The first step already moves, the last step of the warm-up has the full rate.
  if (now < warmup) return (now + 1) / warmup;
  const double length = std::max(1.0, static_cast<double>(total_steps) - warmup);
  return after_warmup({now / per_epoch, now - warmup, length, std::min(1.0, (now - warmup) / length)});
}

}  // namespace impart::train

// The factories behind schedules().
#pragma once

#include "impart/core/settings.hpp"
#include "impart/train/schedule.hpp"

namespace impart::train {

SchedulePtr make_constant(Settings& settings);
SchedulePtr make_step(Settings& settings);
SchedulePtr make_multi_step(Settings& settings);
SchedulePtr make_cosine(Settings& settings);
SchedulePtr make_polynomial(Settings& settings);
SchedulePtr make_one_cycle(Settings& settings);
SchedulePtr make_plateau(Settings& settings);

/// From `start` to `end` along half a cosine, as `done` goes from 0 to 1.
double along_cosine(double start, double end, double done);

}  // namespace impart::train

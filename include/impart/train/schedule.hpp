// Learning-rate schedules: pure functions of the step, or of what was measured, so that a continued run needs
// no memory of them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace impart::train {

enum class ScheduleKind : std::uint8_t {
  kConstant,
  kStep,
  kMultiStep,
  kCosine,
  kPolynomial,
  kOneCycle,
  kPlateau
};

struct ScheduleOptions {
  ScheduleKind kind = ScheduleKind::kConstant;
  double warmup_epochs = 0;  ///< linear from 0 to the full rate over so many epochs; any kind
  double step_epochs = 1;    ///< kStep: multiply by `gamma` after each so many epochs
  double gamma = 0.1;        ///< kStep, kMultiStep
  double final_factor = 0;   ///< kCosine, kPolynomial: what is left of the rate at the end, in [0, 1]
  std::vector<double> milestones = {};  ///< kMultiStep: the epochs after which to multiply by `gamma`, rising
  double power = 1;                     ///< kPolynomial

  // kOneCycle (Smith and Topin 2019), as PyTorch's OneCycleLR with cosines: the learning rate is the highest.
  double pct_start = 0.3;         ///< part of the steps in which the rate rises, in (0, 1)
  double div_factor = 25;         ///< the first rate is the highest divided by this
  double final_div_factor = 1e4;  ///< the last rate is the first divided by this

  // kPlateau, as PyTorch's ReduceLROnPlateau with a relative threshold.
  double factor = 0.1;      ///< what the rate is multiplied with
  int patience = 10;        ///< after more epochs than this without an improvement
  double threshold = 1e-4;  ///< an improvement is by more than this part of the best value
  int cooldown = 0;         ///< epochs after a reduction in which none is counted
  double min_factor = 0;    ///< the rate does not fall below this part of the full one
};

/// What the base learning rate is multiplied with in update `step` (from 0). kPlateau is constant here.
double schedule_factor(const ScheduleOptions& options, std::int64_t step, std::int64_t steps_per_epoch,
                       std::int64_t total_steps);

/// What kPlateau multiplies the rate with after epochs that ended with `values` of the monitored metric; 1
/// for other kinds.
double plateau_factor(const ScheduleOptions& options, std::span<const double> values, bool lower_is_better);

}  // namespace impart::train

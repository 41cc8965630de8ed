// Optimizers and learning-rate schedules.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "impart/core/state_dict.hpp"

namespace impart::train {

enum class ScheduleKind : std::uint8_t { kConstant, kStep, kCosine };

/// The learning rate as a pure function of the step, so that a continued run needs no memory of it.
struct ScheduleOptions {
  ScheduleKind kind = ScheduleKind::kConstant;
  double warmup_epochs = 0;  ///< linear from 0 to the full rate over so many epochs
  double step_epochs = 1;    ///< kStep: multiply by `gamma` after each so many epochs
  double gamma = 0.1;        ///< kStep
  double final_factor = 0;   ///< kCosine: what is left of the rate at the end, in [0, 1]
};

/// What the base learning rate is multiplied with in `step` (from 0).
double schedule_factor(const ScheduleOptions& options, std::int64_t step, std::int64_t steps_per_epoch,
                       std::int64_t total_steps);

enum class OptimizerKind : std::uint8_t { kSgd, kAdam, kAdamW };

/// Names and defaults are PyTorch's.
struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kSgd;
  double learning_rate = 0.01;
  double momentum = 0;    ///< kSgd
  bool nesterov = false;  ///< kSgd; needs momentum > 0
  double weight_decay =
      0;               ///< kSgd, kAdam: added to the gradient; kAdamW: decoupled (Loshchilov and Hutter 2019)
  double beta1 = 0.9;  ///< kAdam, kAdamW
  double beta2 = 0.999;   ///< kAdam, kAdamW
  double epsilon = 1e-8;  ///< kAdam, kAdamW
};

/// How the parameters whose names match `pattern` are treated. Later groups win.
struct ParameterGroup {
  std::string pattern;               ///< "*" matches any text, "?" any character: "conv*.weight"
  double learning_rate_scale = 1.0;  ///< times the optimizer's rate
  bool frozen = false;               ///< not changed at all
};

/// True when `name` matches `pattern` as ParameterGroup says.
bool matches(std::string_view pattern, std::string_view name);

/// The groups resolved for one parameter.
ParameterGroup group_of(std::span<const ParameterGroup> groups, std::string_view parameter);

/// Changes parameters by their gradients, and keeps a StateDict for each of its slots (momentum ...).
class Optimizer {
 public:
  Optimizer(const OptimizerOptions& options, StateLayoutPtr layout, std::span<const ParameterGroup> groups);

  /// One update in place. `step` counts from 0; `factor` is the schedule's. Buffers are not touched.
  void update(StateDict& state, const StateDict& gradients, double factor, std::int64_t step);

  [[nodiscard]] std::string_view kind() const noexcept;
  /// Name and state of each slot, to be saved and, by `restore`, taken back. Throws Error when they don't
  /// fit.
  [[nodiscard]] std::vector<std::pair<std::string, StateDict>> snapshot() const;
  void restore(std::string_view kind, std::span<const std::pair<std::string, StateDict>> slots);

 private:
  OptimizerOptions options_;
  std::vector<std::pair<StateEntry, ParameterGroup>> parameters_;
  std::vector<std::pair<std::string, StateDict>> slots_;
};

}  // namespace impart::train

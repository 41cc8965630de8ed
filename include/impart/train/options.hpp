// The settings of all optimizers, schedules, averages and solvers side by side, for the stages that read them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "impart/nn/objective_options.hpp"
#include "impart/train/average.hpp"
#include "impart/train/optimizer.hpp"
#include "impart/train/schedule.hpp"
#include "impart/train/solver.hpp"

namespace impart::train {

enum class OptimizerKind : std::uint8_t { kSgd, kAdam, kAdamW, kRmsprop, kLars, kLamb };
struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kSgd;
  double learning_rate = 0.01;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double alpha = 0.99;
  bool centered = false;
  double trust = 0.001;
};
std::span<const std::string_view> optimizer_names();
OptimizerOptions default_options(OptimizerKind kind);
OptimizerRulePtr rule_of(const OptimizerOptions& options);

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
  double warmup_epochs = 0;
  double step_epochs = 1;
  double gamma = 0.1;
  double final_factor = 0;
  std::vector<double> milestones = {};
  double power = 1;
  double pct_start = 0.3;
  double div_factor = 25;
  double final_div_factor = 1e4;
  double factor = 0.1;
  int patience = 10;
  double threshold = 1e-4;
  int cooldown = 0;
  double min_factor = 0;
};
SchedulePtr schedule_of(const ScheduleOptions& options);

enum class AverageKind : std::uint8_t { kNone, kEma, kSwa };
struct AverageOptions {
  AverageKind kind = AverageKind::kNone;
  double decay = 0.999;
  double start = 0.75;
  double learning_rate = 0;
};
AveragePtr average_of(const AverageOptions& options);

enum class SolverKind : std::uint8_t { kLeastSquares, kNewton, kLbfgs };
struct SolverOptions {
  SolverKind kind = SolverKind::kLeastSquares;
  double ridge = 0;
  nn::ObjectiveKind objective = nn::ObjectiveKind::kCrossEntropy;
  double tolerance = 1e-8;
  int max_iterations = 100;
  int memory = 10;
};
std::span<const std::string_view> solver_names();
SolverPtr solver_of(const SolverOptions& options);

}  // namespace impart::train

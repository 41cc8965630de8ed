#include "stages/optimizer_settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace impart::stages {

namespace {

using train::AverageKind;
using train::OptimizerKind;
using train::ScheduleKind;
using train::SolverKind;

constexpr Range kBelowOne{.low = 0, .high = 1, .high_open = true};
constexpr Range kPart{.low = 0, .high = 1, .low_open = true};
constexpr Range kWithinOne{.low = 0, .high = 1, .low_open = true, .high_open = true};

void choose_objective(Settings& table, std::string_view key, nn::ObjectiveKind& kind) {
  const auto names = nn::objective_names();
  auto chosen = static_cast<std::size_t>(kind);
  table.choose_word(key, chosen, {names.begin(), names.end()}, "");
  kind = static_cast<nn::ObjectiveKind>(chosen);
}

void read_moments(Settings& table, train::OptimizerOptions& optimizer) {
  table.read("beta1", optimizer.beta1, kBelowOne, "");
  table.read("beta2", optimizer.beta2, kBelowOne, "");
  table.read("epsilon", optimizer.epsilon, above(0), "");
}

// The settings of one kind.
void read_rule(Settings& table, train::OptimizerOptions& optimizer) {
  table.read("learning_rate", optimizer.learning_rate, at_least(0), "");
  table.read("weight_decay", optimizer.weight_decay, at_least(0), "");
  switch (optimizer.kind) {
    case OptimizerKind::kSgd:
      table.read("momentum", optimizer.momentum, kBelowOne, "");
      table.read("nesterov", optimizer.nesterov, "");
      if (optimizer.nesterov && optimizer.momentum == 0) {
        table.problem("nesterov", "needs a momentum above 0");
        optimizer.nesterov = false;
      }
      break;
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
    case OptimizerKind::kLamb:
      read_moments(table, optimizer);
      break;
    case OptimizerKind::kRmsprop:
      table.read("alpha", optimizer.alpha, kBelowOne, "");
      table.read("momentum", optimizer.momentum, kBelowOne, "");
      table.read("centered", optimizer.centered, "");
      table.read("epsilon", optimizer.epsilon, above(0), "");
      break;
    case OptimizerKind::kLars:
      table.read("momentum", optimizer.momentum, kBelowOne, "");
      table.read("trust", optimizer.trust, above(0), "");
      break;
  }
}

void read_clips(Settings& table, std::vector<train::GradientTransformPtr>& transforms) {
  double norm = 0;
  double value = 0;
  table.read("clip_norm", norm, at_least(0), "");
  table.read("clip_value", value, at_least(0), "");
  if (norm > 0) transforms.push_back(train::make_clip_norm(norm));
  if (value > 0) transforms.push_back(train::make_clip_value(value));
}

void read_solver(Settings& table, SolverKind kind, TrainingSettings& training) {
  auto& solver = training.solver.emplace(train::SolverOptions{.kind = kind});
  if (kind == SolverKind::kLeastSquares) {
    table.read("ridge", solver.ridge, at_least(0), "");
    training.objective.kind = nn::ObjectiveKind::kMeanSquaredError;
    return;
  }
  if (kind == SolverKind::kNewton) training.objective.kind = nn::ObjectiveKind::kCrossEntropy;
  if (kind == SolverKind::kLbfgs) {
    solver.tolerance = 1e-5;  // no more can be told of slopes in float32
    table.read("memory", solver.memory, between(1, 1000), "");
  }
  table.read("l2", training.objective.l2, at_least(0), "");
  table.read("tolerance", solver.tolerance, at_least(0), "");
  table.read("max_iterations", solver.max_iterations, between(1, 1'000'000), "");
}

}  // namespace

void read_objective(Settings& stage, nn::ObjectiveOptions& objective) {
  using enum nn::ObjectiveKind;
  if (!stage.has("objective") || stage.is_text("objective")) {
    choose_objective(stage, "objective", objective.kind);
    return;
  }
  auto table = stage.table("objective");
  choose_objective(table, "kind", objective.kind);
  if (objective.kind == kCrossEntropy || objective.kind == kKl) {
    table.read("label_smoothing", objective.label_smoothing, kBelowOne, "");
  }
  if (objective.kind == kCrossEntropy) table.read("class_weights", objective.class_weights, above(0), "");
  if (objective.kind == kHuber) table.read("delta", objective.delta, above(0), "");
  if (objective.kind == kMulticlassHinge) {
    table.read("margin", objective.margin, above(0), "");
    table.read("power", objective.power, between(1, 2), "");
  }
  if (objective.l2 > 0 && table.has("l2")) table.problem("l2", "the optimizer has an l2, too: give it once");
  table.read("l2", objective.l2, at_least(0), "");
  table.finish();
}

void read_optimizer(Settings& stage, TrainingSettings& training) {
  auto table = stage.table("optimizer");
  std::vector<std::string_view> names;
  for (const auto all : {train::optimizer_names(), train::solver_names()})
    names.insert(names.end(), all.begin(), all.end());
  std::size_t chosen = 0;
  table.choose_word("kind", chosen, names, "");
  const auto optimizers = train::optimizer_names().size();
  if (chosen >= optimizers) {
    read_solver(table, static_cast<SolverKind>(chosen - optimizers), training);
  } else {
    training.optimizer = train::default_options(static_cast<OptimizerKind>(chosen));
    read_rule(table, training.optimizer);
    read_clips(table, training.transforms);
  }
  table.finish();
}

void check_solver(Settings& stage, const TrainingSettings& training) {
  if (!training.solver) return;
  const auto kind = training.solver->kind;
  const auto name = train::solver_names()[static_cast<std::size_t>(kind)];
  const auto refuse = [&](std::string_view key, std::string_view why) {
    if (stage.has(key)) stage.problem(key, fmt::format("{} {}", name, why));
  };
  for (const auto* key : {"epochs", "local_epochs", "schedule", "accumulate", "local_steps", "average",
                          "keep", "early_stopping"})
    refuse(key, "does not work step by step, and has no use for it");
  refuse("augment", "sees each sample once, as it is");
  refuse("groups", "has no learning rate");
  if (kind != SolverKind::kLbfgs) refuse("freeze", "solves for all weights");

  using enum nn::ObjectiveKind;
  const auto& objective = training.objective;
  if (kind == SolverKind::kLeastSquares && (objective.kind != kMeanSquaredError || objective.l2 > 0)) {
    stage.problem("objective", "least_squares minimises mean_squared_error, and its penalty is `ridge`");
  }
  const bool plain = (objective.kind == kCrossEntropy || objective.kind == kBinaryCrossEntropy) &&
                     objective.label_smoothing == 0 && objective.class_weights.empty();
  if (kind == SolverKind::kNewton && !plain) {
    stage.problem(
        "objective",
        "newton minimises cross_entropy or binary_cross_entropy, without smoothing and class_weights "
        "(lbfgs takes any smooth one)");
  }
  const bool bends = objective.kind == kL1 || objective.kind == kHinge ||
                     (objective.kind == kMulticlassHinge && objective.power == 1);
  if (kind == SolverKind::kLbfgs && bends)
    stage.problem("objective",
                  fmt::format("lbfgs needs one whose slope changes without a jump (such as huber, or "
                              "multiclass_hinge with power = 2), got {}",
                              nn::objective_names()[static_cast<std::size_t>(objective.kind)]));
}

void read_schedule(Settings table, train::ScheduleOptions& schedule) {
  table.choose("kind", schedule.kind,
               {{"constant", ScheduleKind::kConstant},
                {"step", ScheduleKind::kStep},
                {"multi_step", ScheduleKind::kMultiStep},
                {"cosine", ScheduleKind::kCosine},
                {"polynomial", ScheduleKind::kPolynomial},
                {"one_cycle", ScheduleKind::kOneCycle},
                {"plateau", ScheduleKind::kPlateau}},
               "");
  table.read("warmup_epochs", schedule.warmup_epochs, at_least(0), "");
  switch (schedule.kind) {
    case ScheduleKind::kConstant:
      break;
    case ScheduleKind::kStep:
      table.read("step_epochs", schedule.step_epochs, above(0), "");
      table.read("gamma", schedule.gamma, kPart, "");
      break;
    case ScheduleKind::kMultiStep:
      table.require("milestones", schedule.milestones, above(0), "");
      if (!std::ranges::is_sorted(schedule.milestones)) table.problem("milestones", "expected rising epochs");
      table.read("gamma", schedule.gamma, kPart, "");
      break;
    case ScheduleKind::kPolynomial:
      table.read("power", schedule.power, above(0), "");
      [[fallthrough]];
    case ScheduleKind::kCosine:
      table.read("final_factor", schedule.final_factor, between(0, 1), "");
      break;
    case ScheduleKind::kOneCycle:
      table.read("pct_start", schedule.pct_start, kWithinOne, "");
      table.read("div_factor", schedule.div_factor, at_least(1), "");
      table.read("final_div_factor", schedule.final_div_factor, at_least(1), "");
      break;
    case ScheduleKind::kPlateau:
      table.read("factor", schedule.factor, kWithinOne, "");
      table.read("patience", schedule.patience, at_least(0), "");
      table.read("threshold", schedule.threshold, kBelowOne, "");
      table.read("cooldown", schedule.cooldown, at_least(0), "");
      table.read("min_factor", schedule.min_factor, kBelowOne, "");
      break;
  }
  table.finish();
}

void read_average(Settings table, TrainingSettings& training) {
  auto& average = training.average;
  table.choose("kind", average.kind,
               {{"none", AverageKind::kNone}, {"ema", AverageKind::kEma}, {"swa", AverageKind::kSwa}}, "");
  if (average.kind == AverageKind::kEma) table.read("decay", average.decay, kBelowOne, "");
  if (average.kind == AverageKind::kSwa) {
    table.read("start", average.start, kBelowOne, "");
    table.read("learning_rate", average.learning_rate, above(0), "");
    if (average.learning_rate > 0 && training.optimizer.learning_rate == 0)
      table.problem("learning_rate", "needs an optimizer with a learning_rate above 0");
  }
  table.finish();
}

}  // namespace impart::stages

// Reads what a stage minimises, and how: objective, optimizer, schedule, averages.
#pragma once

#include "impart/core/settings.hpp"
#include "impart/stages/training.hpp"

namespace impart::stages {

/// `objective` of a stage: a kind, or a table of it and its settings. What `objective` holds is the default;
/// an l2 in it is the optimizer's, and there can be no other.
void read_objective(Settings& stage, nn::ObjectiveOptions& objective);
/// `optimizer` of a stage: one that takes steps, or a solver. REQUIRES: before `read_objective`, whose
/// default it may change.
void read_optimizer(Settings& stage, TrainingSettings& training);
/// What goes with the solver of a stage, if it has one. REQUIRES: after `read_objective`.
void check_solver(Settings& stage, const TrainingSettings& training);
void read_schedule(Settings table, train::ScheduleOptions& schedule);
/// REQUIRES: after `read_optimizer`.
void read_average(Settings table, TrainingSettings& training);

}  // namespace impart::stages

// The solvers behind `train`, and what they share.
#pragma once

#include <string>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/train/trainer.hpp"

namespace impart::train {

/// A model of nothing but (flatten and) one dense layer.
struct LinearModel {
  std::string weight;  ///< (outputs, inputs)
  std::string bias;    ///< (outputs); empty without one
  std::int64_t inputs = 0;
  std::int64_t outputs = 0;
};
/// Throws Error (usage, collective: specs are equal), which says why, for any other model.
LinearModel linear_model(const nn::ModelSpec& spec);

/// Samples whose values are converted and multiplied together.
inline constexpr std::int64_t kSampleBlock = 256;

/// As `train`, by options.solver. A stopped kLbfgs continues; the others are short, and start again.
TrainResult solve(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                  StateDict& state);

TrainResult solve_least_squares(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                                StateDict& state);
TrainResult solve_newton(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                         StateDict& state);
TrainResult solve_lbfgs(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                        StateDict& state);

/// Puts the result of `steps` steps of a linear solver into `state`, and records how good it is. `weights`:
/// (outputs, inputs + 1), row-major; the last column are the biases. Collective.
void finish_linear(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                   const std::vector<double>& weights, std::int64_t steps, StateDict& state,
                   TrainResult& result);

}  // namespace impart::train

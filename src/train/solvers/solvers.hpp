// The solvers behind solvers(), and what they share.
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

/// The factories behind solvers(). A stopped lbfgs continues; the others are short, and start again.
SolverPtr make_least_squares(Settings& settings);
SolverPtr make_newton(Settings& settings);
SolverPtr make_lbfgs(Settings& settings);

/// When an iterative solver ends. Reads it.
struct Ending {
  Ending(Settings& settings, double least) : tolerance(least) {
    settings.read("tolerance", tolerance, at_least(0), "done when no slope of the objective is larger");
    settings.read("max_iterations", max_iterations, between(1, 1'000'000), "after which it ends anyway");
  }
  double tolerance;
  int max_iterations = 100;
};

double read_penalty(Settings& settings);

/// Why a model is not linear; empty when it is.
std::string why_not_linear(const nn::ModelSpec& spec);

/// Bytes that sums of so many values over the samples take, as Solver::memory.
std::size_t sums_memory(std::size_t values, int shards, int ranks, int threads);

/// Puts the result of `steps` steps of a linear solver into `state`, and records how good it is. `weights`:
/// (outputs, inputs + 1), row-major; the last column are the biases. Collective.
void finish_linear(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                   const std::vector<double>& weights, std::int64_t steps, StateDict& state,
                   TrainResult& result);

}  // namespace impart::train

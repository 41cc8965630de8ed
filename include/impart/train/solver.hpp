// Solvers: what finds a model's weights from all the data at once, instead of batch by batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "impart/nn/objective_options.hpp"
#include "impart/nn/spec.hpp"

namespace impart::train {

enum class SolverKind : std::uint8_t {
  /// Ridge regression on one-hot labels, exactly, from sums of products; for linear models.
  kLeastSquares,
  /// Logistic regression by iteratively reweighted least squares (Newton's method with step halving), one
  /// multinomial model or one binary model a class; for linear models.
  kNewton,
  /// Limited-memory BFGS with a line search by the strong Wolfe conditions (Nocedal and Wright 2006, chapters
  /// 3 and 7) on the whole training set's gradient; for any smooth model.
  kLbfgs,
};

/// Names of the kinds, in their order: "least_squares" ...
std::span<const std::string_view> solver_names();

struct SolverOptions {
  SolverKind kind = SolverKind::kLeastSquares;
  /// kLeastSquares: times the sum of the squares of the weights (not the biases) is added to the sum of
  /// squared errors: scikit-learn's `alpha`. At least 0.
  double ridge = 0;
  /// kNewton: what TrainTask::objective is, kCrossEntropy or kBinaryCrossEntropy, plain.
  nn::ObjectiveKind objective = nn::ObjectiveKind::kCrossEntropy;
  /// kNewton, kLbfgs: done when no slope of the objective is larger.
  double tolerance = 1e-8;
  int max_iterations = 100;  ///< kNewton, kLbfgs
  int memory = 10;           ///< kLbfgs: pairs of steps and changes of the gradient that it keeps
};

/// Why `kind` cannot find the weights of such a model; empty when it can.
std::string why_not(SolverKind kind, const nn::ModelSpec& spec);

/// Bytes that a solver takes on each of `ranks` ranks of `threads`, beside the data.
std::size_t solver_memory(const SolverOptions& options, const nn::ModelSpec& spec, int shards, int ranks,
                          int threads);

}  // namespace impart::train

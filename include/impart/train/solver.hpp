// Solvers: what finds a model's weights from all the data at once, instead of batch by batch.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "impart/comm/comm.hpp"
#include "impart/core/registry.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/spec.hpp"
#include "impart/train/capabilities.hpp"

namespace impart::train {

struct TrainerOptions;
struct TrainTask;
struct TrainResult;

/// One method, with its settings. Immutable.
class Solver {
 public:
  virtual ~Solver() = default;

  [[nodiscard]] virtual std::string_view kind() const = 0;
  /// The objective that it minimises when none is named; empty: the model's.
  [[nodiscard]] virtual std::string_view default_objective() const { return ""; }
  /// The penalty on weights that its settings ask for; 0 where the objective has one. Solvers themselves take
  /// TrainerOptions::l2.
  [[nodiscard]] virtual double l2() const { return 0; }
  /// Why it cannot find the weights of such a model; empty when it can.
  [[nodiscard]] virtual std::string why_not(const nn::ModelSpec& spec) const = 0;
  /// Why it cannot minimise this objective with such a penalty; empty when it can.
  [[nodiscard]] virtual std::string why_not(const nn::Objective& objective, double l2) const = 0;
  /// What no solver goes with, and what this one does not.
  [[nodiscard]] virtual Capabilities capabilities() const;
  /// Bytes that it takes on each of `ranks` ranks of `threads`, beside the data.
  [[nodiscard]] virtual std::size_t memory(const nn::ModelSpec& spec, const nn::Objective& objective,
                                           int shards, int ranks, int threads) const = 0;
  /// As `train`.
  virtual TrainResult solve(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                            StateDict& state) const = 0;
};

using SolverPtr = std::shared_ptr<const Solver>;

/// least_squares, newton, lbfgs.
const Registry<SolverPtr>& solvers();
/// The one that a table { kind, ... } says. Throws Error (usage).
SolverPtr make_solver(const SettingTable& table);

}  // namespace impart::train

// Rounds: what all orders of training clients share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/core/progress.hpp"
#include "impart/io/checkpoint.hpp"
#include "impart/share/federate/federate.hpp"
#include "impart/train/saved_run.hpp"

namespace impart::share {

/// One federation: rounds, events, progress, saving, continuing and stopping. Who derives from it says what a
/// step is: what can be continued after. A round is so many of them.
class Rounds {
 public:
  /// Borrows all. `step_name`: "round".
  Rounds(const comm::Comm& comm, const FederateOptions& options, const FederateTask& task, StateDict& state,
         std::int64_t steps_per_round, const char* step_name);
  virtual ~Rounds() = default;

  train::TrainResult execute();

 protected:
  /// What a step gave.
  struct StepOutcome {
    bool finished = false;     ///< false: a stop came before it was over; then nothing has changed
    double loss = 0;           ///< sum over the clients that have trained, each as often as it has samples
    std::int64_t samples = 0;  ///< of these clients
  };
  /// Collective.
  virtual StepOutcome run_step() = 0;
  /// "round 1/2".
  [[nodiscard]] virtual std::string describe(std::int64_t step) const;
  /// What is saved beside the weights; on the root. Collective.
  virtual std::optional<io::OptimizerRecord> algorithm_state() { return std::nullopt; }
  virtual void restore_algorithm(std::vector<std::pair<std::string, StateDict>> /*slots*/) {}

  [[nodiscard]] std::int64_t round() const noexcept { return step_ / steps_per_round_; }
  [[nodiscard]] std::int64_t step() const noexcept { return step_; }
  [[nodiscard]] std::vector<int> clients_of_round(std::int64_t round) const;
  [[nodiscard]] std::int64_t samples_of(int client) const;
  [[nodiscard]] std::int64_t samples_of(const std::vector<int>& clients) const;
  /// What a client trains with in this round, but for its threads and shards.
  [[nodiscard]] train::TrainerOptions client_options(int client) const;
  /// Trains `weights` on the client's data, alone.
  train::TrainResult train_client(int client, const train::TrainerOptions& options, StateDict& weights) const;

  const comm::Comm& comm_;
  const FederateOptions& options_;
  const FederateTask& task_;
  StateDict& state_;
  std::int64_t steps_per_round_;
  train::TrainSeconds seconds_;

 private:
  void end_round();
  void event(const std::string& name, double value);
  void save();
  void restore();
  [[nodiscard]] bool stop_wanted() const;
  [[nodiscard]] std::int64_t samples_of_rounds() const;

  const char* step_name_;
  comm::Comm self_;
  train::SavedRun saved_;
  ProgressLine progress_;
  std::int64_t step_ = 0;
  std::int64_t saved_step_ = 0;  // at the beginning there is nothing to save
  double loss_ = 0;              // of the round's clients so far, each as often as it has samples
  train::TrainResult result_;
};

}  // namespace impart::share

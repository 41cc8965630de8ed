// Optimizers: how a gradient changes the parameters.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "impart/core/state_dict.hpp"
#include "impart/core/worker_team.hpp"
#include "impart/train/trained_parameters.hpp"

namespace impart::train {

enum class OptimizerKind : std::uint8_t { kSgd, kAdam, kAdamW, kRmsprop, kLars, kLamb };

/// Names of the kinds, in their order: "sgd" ...
std::span<const std::string_view> optimizer_names();

/// Names are PyTorch's; so are the defaults that `default_options` gives for each kind (for kLars and kLamb,
/// those of their papers).
struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kSgd;
  double learning_rate = 0.01;
  double momentum = 0;    ///< kSgd, kRmsprop, kLars
  bool nesterov = false;  ///< kSgd; needs momentum > 0
  /// kSgd, kAdam, kRmsprop, kLars: added to the gradient; kAdamW, kLamb: decoupled from it
  double weight_decay = 0;
  double beta1 = 0.9;     ///< kAdam, kAdamW, kLamb
  double beta2 = 0.999;   ///< kAdam, kAdamW, kLamb
  double epsilon = 1e-8;  ///< kAdam, kAdamW, kRmsprop, kLamb
  double alpha = 0.99;    ///< kRmsprop: smoothing
  bool centered = false;  ///< kRmsprop: divide by the deviation, not by the root of the mean square
  /// kLars: the trust coefficient. LARS and LAMB give each tensor a rate by the ratio of its length to its
  /// step's. Tensors of one extent (biases, scales) get the plain rate, and no decay, as in the authors'
  /// code.
  double trust = 0.001;
};

OptimizerOptions default_options(OptimizerKind kind);
/// Arrays of the parameters' size that an optimizer keeps.
std::size_t optimizer_slots(const OptimizerOptions& options);

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

/// Changes parameters by their gradients, and keeps a StateDict for each of its slots (momentum ...). The
/// same bits for any number of threads.
class Optimizer {
 public:
  /// `team`: the threads that share the work; borrowed; null: the calling thread alone.
  /// `sum_parts`: for tensors of which other ranks have other parts; empty: all are whole.
  Optimizer(const OptimizerOptions& options, StateLayoutPtr layout, std::span<const ParameterGroup> groups,
            WorkerTeam* team = nullptr, SumParts sum_parts = {});

  /// One update in place. `step` counts from 0; `factor` is the schedule's. Buffers are not touched.
  void update(StateDict& state, const StateDict& gradients, double factor, std::int64_t step);

  /// That it changes: those of no frozen group.
  [[nodiscard]] const TrainedParameters& parameters() const noexcept { return parameters_; }
  [[nodiscard]] std::string_view kind() const noexcept;
  /// Name and state of each slot, to be saved and, by `restore`, taken back. Throws Error when they don't
  /// fit.
  [[nodiscard]] std::span<const std::pair<std::string, StateDict>> slots() const noexcept { return slots_; }
  void restore(std::string_view kind, std::span<const std::pair<std::string, StateDict>> slots);

 private:
  struct Update;
  using Piece = TrainedParameters::Piece;

  void update_lars(const Update& update);
  void update_lamb(const Update& update);

  OptimizerOptions options_;
  TrainedParameters parameters_;
  std::vector<double> scales_;  // of the rate, for each of them
  std::vector<std::pair<std::string, StateDict>> slots_;
};

}  // namespace impart::train

// OptimizerRule and Optimizer: how a gradient changes the parameters.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "impart/core/registry.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/core/worker_team.hpp"
#include "impart/train/trained_parameters.hpp"

namespace impart::train {

/// What a rule works on: one update.
struct OptimizerStep {
  StateDict& state;                                    ///< changed in place
  const StateDict& gradient;                           ///< as the transforms have left it
  std::span<std::pair<std::string, StateDict>> slots;  ///< the rule's own, as `slot_names` says
  double rate = 0;                                     ///< the learning rate times the schedule's factor
  std::int64_t number = 0;                             ///< of the update, from 0
  const TrainedParameters& parameters;
  std::span<const double> scales;  ///< of the rate, for each parameter: its group's
};

/// How a gradient changes the parameters. A rule holds settings alone; what changes along a run is in slots,
/// which its Optimizer keeps. Buffers are not touched. The same bits for any number of threads.
class OptimizerRule {
 public:
  virtual ~OptimizerRule() = default;

  [[nodiscard]] virtual std::string_view kind() const = 0;
  [[nodiscard]] virtual double learning_rate() const = 0;
  /// Arrays of the parameters' size that it keeps, zero at first: one name each.
  [[nodiscard]] virtual std::vector<std::string> slot_names() const = 0;
  virtual void update(const OptimizerStep& step) const = 0;
};

using OptimizerRulePtr = std::shared_ptr<const OptimizerRule>;

/// The rules by name. Names of settings are PyTorch's; so are the defaults (of lars and lamb, those of their
/// papers).
const Registry<OptimizerRulePtr>& optimizers();
/// The rule that a table { kind, ... } says; sgd without a kind. Throws Error (usage).
OptimizerRulePtr make_optimizer(const SettingTable& table = {});

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

/// A pattern of the groups that matches none of a model's parameters, which is a typing mistake.
struct UnusedPattern {
  std::string key;  ///< the setting that has it: "groups" or "freeze"
  std::string text;
};
std::vector<UnusedPattern> unused_patterns(std::span<const ParameterGroup> groups, const StateLayout& layout);

/// A rule at work: with groups, threads and slots. The same bits for any number of threads.
class Optimizer {
 public:
  /// `team`: the threads that share the work; borrowed; null: the calling thread alone.
  /// `sum_parts`: for tensors of which other ranks have other parts; empty: all are whole.
  Optimizer(OptimizerRulePtr rule, const StateLayoutPtr& layout, std::span<const ParameterGroup> groups,
            WorkerTeam* team = nullptr, SumParts sum_parts = {});

  /// One update in place. `number` counts from 0; `factor` is the schedule's.
  void update(StateDict& state, const StateDict& gradient, double factor, std::int64_t number);

  /// That it changes: those of no frozen group.
  [[nodiscard]] const TrainedParameters& parameters() const noexcept { return parameters_; }
  [[nodiscard]] std::string_view kind() const { return rule_->kind(); }
  /// Name and state of each slot, to be saved and, by `restore`, taken back. Throws Error when they don't
  /// fit.
  [[nodiscard]] std::span<const std::pair<std::string, StateDict>> slots() const noexcept { return slots_; }
  void restore(std::string_view kind, std::span<const std::pair<std::string, StateDict>> slots);

 private:
  OptimizerRulePtr rule_;
  TrainedParameters parameters_;
  std::vector<double> scales_;  // of the rate, for each of them
  std::vector<std::pair<std::string, StateDict>> slots_;
};

}  // namespace impart::train

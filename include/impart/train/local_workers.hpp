// LocalWorkers: local SGD, where the shards of a batch train weights of their own between two averages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/data/batch_loader.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/spec.hpp"
#include "impart/train/gradient_engine.hpp"
#include "impart/train/optimizer.hpp"
#include "impart/train/transform.hpp"

namespace impart::train {

/// Local SGD (Stich 2019, "Local SGD converges fast and communicates little", algorithm 1): each shard of the
/// global batch is a worker with weights, buffers and optimizer state of its own, which makes its steps by
/// the mean loss of its shard of one batch after another. Then all workers get the mean of what they have:
/// weights, buffers, and the slots of the optimizer and of transforms (momentum: Yu, Jin and Yang 2019, "On the linear speedup
/// analysis of communication efficient momentum SGD for distributed non-convex optimization", algorithm 1).
///
/// Means are summed in the fixed tree of comm/shards.hpp: the bits depend neither on ranks nor on threads. A
/// worker whose shard is empty, in the tail of an epoch, makes no step, and counts as it is. Parameters that
/// no worker changes keep their bits.
class LocalWorkers {
 public:
  /// `engine`: of the global batch. Borrows `comm` and `objective`. Collective. Throws as GradientEngine
  /// does.
  LocalWorkers(const comm::Comm& comm, const nn::ModelSpec& spec, const nn::Objective& objective,
               const EngineOptions& engine, const OptimizerRulePtr& optimizer,
               std::span<const ParameterGroup> groups,
               const std::vector<GradientTransformPtr>& transforms = {});
  ~LocalWorkers();

  /// All workers start from here. Local.
  void start(const StateDict& state, const Optimizer& optimizer, const TransformChain& transforms);
  /// A step of each of this rank's workers; `factor` and `number` as Optimizer::update. `want_stop`: this
  /// rank asks all to stop after the next average. Local.
  void step(const data::Batch& batch, double factor, std::int64_t number, bool want_stop);
  /// Puts the means in place of the values that `start` was given, and returns what all batches since then
  /// gave together. Collective; the same bits on all ranks.
  StepResult average(StateDict& state, Optimizer& optimizer, TransformChain& transforms);

  /// The first layer of this rank's workers whose values were not finite in a step since `start`.
  [[nodiscard]] std::optional<std::string> first_not_finite() const;
  [[nodiscard]] EngineSeconds seconds() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Bytes that LocalWorkers of one of `ranks` ranks take beside the states of the workers themselves; the
/// optimizer and the transforms have so many `slots`.
EngineMemory local_memory(const nn::ModelSpec& spec, const EngineOptions& options, std::size_t slots,
                          int ranks);

}  // namespace impart::train

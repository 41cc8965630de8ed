// GradientEngine: the gradient of one global batch, over shards, threads and ranks, in one fixed order of
// summation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "impart/comm/comm.hpp"
#include "impart/comm/reduction.hpp"
#include "impart/core/progress.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/core/worker_team.hpp"
#include "impart/data/batch_loader.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/objective.hpp"
#include "impart/train/trained_parameters.hpp"

namespace impart::train {

/// What a whole run decides for all that it trains.
struct Execution {
  int shards = 8;  ///< of a global batch
  /// Of this rank; each computes shards of its own. 1 is used where tensors are split, or with an
  /// nn::synced_layer.
  int threads = 1;
  comm::Overlap overlap = comm::Overlap::kAuto;
  bool reproducible = true;  ///< false: ranks' gradients are added in any order
  int drift_check = 0;       ///< steps from one check that ranks have equal weights to the next; 0: never
  ProgressMode progress = ProgressMode::kNone;
};

struct EngineOptions : Execution {
  std::int64_t batch_size = 64;  ///< global
  std::uint64_t seed = 0;
  IsTrained trainable = {};  ///< as nn::NetworkOptions
  bool has_parts = false;    ///< other ranks, that the engine does not know, have other parts of the tensors
};

/// Throws Error (usage) when the model has an nn::synced_layer and the shards are not a power of two.
void check_synced(const nn::ModelSpec& spec, const EngineOptions& options);

/// How many shards a network of one of `ranks` ranks computes at once: weights are then read, and gradients
/// written, once for all of them. The result is the same bits for any choice. All of the rank's with an
/// nn::synced_layer.
int shards_at_once(const nn::ModelSpec& spec, const EngineOptions& options, int ranks);

/// What one global batch gave.
struct StepResult {
  double loss = 0;    ///< mean over the batch (0 of none)
  double weight = 0;  ///< what the mean divides by: the number of labels, or the sum of their weights
  bool stop = false;  ///< some rank asked to stop
};

/// Seconds since the engine was made.
struct EngineSeconds {
  double forward = 0;
  double backward = 0;
  double communication = 0;  ///< while nothing is computed: what overlaps with `backward` is not in it
};

/// Bytes that a GradientEngine of one of `ranks` ranks takes, beside the state that it is given.
struct EngineMemory {
  std::size_t gradients = 0;
  std::size_t activations = 0;
  std::size_t scratch = 0;
  [[nodiscard]] std::size_t total() const noexcept { return gradients + activations + scratch; }
};
EngineMemory engine_memory(const nn::ModelSpec& spec, const EngineOptions& options, int ranks);

/// Owns the networks of this rank's threads and the arrays in which gradients are summed. Collective over
/// `comm`.
///
/// Statistics of an nn::synced_layer are those of the whole batch, over all ranks. The last batch of an
/// epoch, when it is not full, has shards of unequal size: there they are each shard's own.
class GradientEngine {
 public:
  /// Borrows `comm` and `objective`. Throws as comm::check_rank_count, check_synced and nn::check_model do.
  GradientEngine(const comm::Comm& comm, const nn::ModelSpec& spec, const nn::Objective& objective,
                 EngineOptions options);
  ~GradientEngine();

  /// The shards of this rank.
  [[nodiscard]] comm::ShardRange range() const noexcept;
  /// Mean loss of `batch` and its gradient at `state`, the sum over samples divided by Batch::divisor. `want_stop`: this rank asks all to stop after this
  /// step. Throws Error when the ranks' values of `state` are no longer equal.
  StepResult compute(const StateDict& state, const data::Batch& batch, bool want_stop);
  /// The gradient that `compute` left; for buffers, the change that the batch asks for.
  [[nodiscard]] const StateDict& gradient() const noexcept;
  /// For transforms, which change it in place.
  [[nodiscard]] StateDict& gradient() noexcept;
  /// The first layer of this rank's shards in the last `compute` whose values are not finite.
  [[nodiscard]] std::optional<std::string> first_not_finite(const StateDict& state, const data::Batch& batch);
  [[nodiscard]] EngineSeconds seconds() const noexcept;
  /// Who moves the sums over ranks on, of comm::kOverlapNames; empty on one rank, and while that is being
  /// found out.
  [[nodiscard]] std::string_view overlap() const noexcept;
  /// This rank's threads, free between two calls.
  [[nodiscard]] WorkerTeam& team() noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace impart::train

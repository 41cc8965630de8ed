// Trainer: the one training loop. Transfer, distillation and the clients of a federation are this loop with
// another objective, other parameters to train, or another stream of data.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/comm/mesh.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/data/augment.hpp"
#include "impart/data/dataset.hpp"
#include "impart/data/sampler.hpp"
#include "impart/io/checkpoint.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/spec.hpp"
#include "impart/train/average.hpp"
#include "impart/train/capabilities.hpp"
#include "impart/train/gradient_engine.hpp"
#include "impart/train/optimizer.hpp"
#include "impart/train/schedule.hpp"
#include "impart/train/solver.hpp"
#include "impart/train/transform.hpp"

namespace impart::train {

enum class Keep : std::uint8_t {
  kLast,  ///< the weights after the last step
  kBest,  ///< the weights with the best value of the monitored metric
};

/// `batch_size`, `seed` and what a run decides are in the bases; `trainable` and `has_parts` are set here.
struct TrainerOptions : EngineOptions {
  std::string stage;  ///< for messages and records
  int epochs = 1;
  /// Of the ranks. With a tensor axis, each rank trains its part of every tensor (parallel::TensorModel).
  comm::MeshShape mesh = {};
  OptimizerRulePtr optimizer = make_optimizer();
  /// Finds the weights instead of the optimizer, from all the data at once, if there is one: what it has no use
  /// for, its capabilities say.
  SolverPtr solver;
  SchedulePtr schedule = make_schedule();
  /// The schedule is that of so many epochs (0: of `epochs`), of which the first that is made here is
  /// `schedule_start`: for a training that is one of several in a row.
  int schedule_epochs = 0;
  int schedule_start = 0;
  std::vector<ParameterGroup> groups;
  double l2 = 0;  ///< the penalty of make_l2, which comes before the transforms; solvers have it, too
  /// What is done to the gradient of each update, in this order. Not with a solver.
  std::vector<GradientTransformPtr> transforms;
  int accumulate = 1;  ///< batches of one update, whose gradient is the mean over all their samples
  /// Above 1: local SGD (LocalWorkers). Each shard makes so many steps by itself before the shards' weights
  /// are averaged; also at the end of an epoch, so that whatever is measured, saved or left is an average.
  /// Ranks speak to each other that much less. A running weight average moves after each of these averages.
  /// `overlap`, `reproducible` and `drift_check` have no meaning.
  int local_steps = 1;
  AveragePtr average = make_average();
  data::SamplerPtr sampler;  ///< of the training samples; null: data::kDefaultSampler
  std::vector<data::AugmentationPtr>
      augment;  ///< of the training samples; the validation data stay as they are

  std::string monitor =
      "accuracy";  ///< "accuracy", "f1_macro" (higher is better) or "loss" of the validation data
  Keep keep = Keep::kLast;
  int patience = 0;      ///< stop after so many epochs without improvement; 0: never
  double min_delta = 0;  ///< an improvement is more than this
};

/// What options ask for and rule out, for `conflicts`: without what depends on model, data and objective.
std::vector<Capabilities> capabilities_of(const TrainerOptions& options);
/// What of the options needs validation data.
std::vector<Capabilities> validation_needs(const TrainerOptions& options);
/// What an objective, and a model of which some groups are frozen, bring along.
Capabilities capabilities_of(const nn::Objective& objective);
Capabilities capabilities_of(const nn::ModelSpec& spec, std::span<const ParameterGroup> groups);

/// One logged value: "train.loss", "validation.accuracy".
struct TrainEvent {
  std::int64_t epoch = 0;
  std::int64_t step = 0;
  std::string name;
  double value = 0;
};

/// What a training run works on, beside its options. All are borrowed.
struct TrainTask {
  const nn::ModelSpec& spec;
  const nn::Objective& objective;
  data::DatasetPtr train;
  data::DatasetPtr validation;                      ///< may be null
  std::function<void(const TrainEvent&)> on_event;  ///< called on every rank; may be empty
  /// Set (by a signal handler) to stop at the next step boundary. May be null.
  const std::atomic<bool>* stop = nullptr;
  /// Where training can continue from: `state/step-*.h5` are written and read here. Empty: nowhere.
  std::filesystem::path state_directory;
  /// Identity of the run that the saved state belongs to; a state with another one is not continued.
  std::string state_key;
};

enum class TrainEnd : std::uint8_t { kFinished, kEarly, kStopped };

/// Where the time of this rank went.
struct TrainSeconds {
  double compute = 0;
  double communication = 0;
  double input = 0;
  double checkpoint = 0;
  // Parts of `compute`.
  double forward = 0;
  double backward = 0;
  double update = 0;
};

struct TrainResult {
  TrainEnd end = TrainEnd::kFinished;
  std::int64_t epochs = 0;  ///< completed
  std::int64_t steps = 0;
  std::int64_t kept_step =
      0;  ///< the step after which the kept weights were had: below `steps` when an earlier was best
  std::int64_t samples = 0;
  std::map<std::string, double>
      metrics;  ///< of the weights that are kept: "train.loss", "validation.accuracy" ...
  std::map<std::string, std::vector<io::MetricPoint>> history;
  TrainSeconds seconds;
  std::string overlap;  ///< as GradientEngine::overlap, at the end
};

/// Trains `state` in place. Collective over `comm`: all ranks give equal options and equal values, and get
/// equal results bit for bit, whatever their number on the data axis. Another size of the tensor axis sums in
/// another order; a state that one mesh has saved continues on any other. When stopped, the state is on disk
/// (if there is a state directory), and the same call continues there.
///
/// Throws Error: options that don't fit (usage), a loss that is not finite (names stage, step and layer), a
/// state that cannot be written. `state` is then undefined.
TrainResult train(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                  StateDict& state);

/// `options.transforms`, after those that come from other options.
std::vector<GradientTransformPtr> all_transforms(const TrainerOptions& options);

}  // namespace impart::train

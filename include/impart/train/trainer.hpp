// Trainer: the one training loop. Transfer, distillation and the clients of a federation are this loop with
// another objective, other parameters to train, or another stream of data.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/comm/mesh.hpp"
#include "impart/comm/reduction.hpp"
#include "impart/core/progress.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/data/augment.hpp"
#include "impart/data/batch_loader.hpp"
#include "impart/data/dataset.hpp"
#include "impart/data/sampler.hpp"
#include "impart/io/checkpoint.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/spec.hpp"
#include "impart/train/optimizer.hpp"
#include "impart/train/schedule.hpp"
#include "impart/train/solver.hpp"
#include "impart/train/transform.hpp"

namespace impart::train {

enum class Keep : std::uint8_t {
  kLast,  ///< the weights after the last step
  kBest,  ///< the weights with the best value of the monitored metric
};

enum class AverageKind : std::uint8_t {
  kNone,
  kEma,  ///< a moving average, after each update; it is what is measured and kept
  kSwa,  ///< the mean of the weights after the last epochs (Izmailov et al. 2018), kept at the end
};

/// Averages of the weights along a run, which are often better than its last ones.
struct AverageOptions {
  AverageKind kind = AverageKind::kNone;
  /// kEma: what is left of the average at each update; less in the first ones, (1 + t) / (10 + t) in update
  /// t. Buffers are averaged, too.
  double decay = 0.999;
  double start = 0.75;       ///< kSwa: the part of the epochs after which averaging starts, in [0, 1)
  double learning_rate = 0;  ///< kSwa: constant from there on; 0: as scheduled
};

struct TrainerOptions {
  std::string stage;  ///< for messages and records
  int epochs = 1;
  std::int64_t batch_size = 64;  ///< global
  int shards = 8;
  int threads = 1;  ///< of this rank; 1 is used where tensors are split, or with an nn::synced_layer
  /// Of the ranks. With a tensor axis, each rank trains its part of every tensor (parallel::TensorModel).
  comm::MeshShape mesh = {};
  comm::Overlap overlap = comm::Overlap::kAuto;  ///< as EngineOptions
  bool reproducible = true;                      ///< as EngineOptions
  std::uint64_t seed = 0;
  OptimizerOptions optimizer;
  /// Finds the weights instead of the optimizer, from all the data at once. Then `epochs`, `schedule`,
  /// `accumulate`, `average`, `sampler`, `augment`, `keep`, `patience` and the rates of groups have no meaning.
  std::optional<SolverOptions> solver;
  ScheduleOptions schedule;
  /// The schedule is that of so many epochs (0: of `epochs`), of which the first that is made here is
  /// `schedule_start`: for a training that is one of several in a row.
  int schedule_epochs = 0;
  int schedule_start = 0;
  std::vector<ParameterGroup> groups;
  double l2 = 0;  ///< as nn::ObjectiveOptions, of solvers, too: the first of the transforms (make_l2)
  /// What is done to the gradient of each update, in this order. Not with a solver.
  std::vector<GradientTransformPtr> transforms;
  int accumulate = 1;  ///< batches of one update, whose gradient is the mean over all their samples
  /// Above 1: local SGD (LocalWorkers). Each shard makes so many steps by itself before the shards' weights
  /// are averaged; also at the end of an epoch, so that whatever is measured, saved or left is an average.
  /// Ranks speak to each other that much less. A weight average (kEma) moves after each of these averages.
  /// `overlap`, `reproducible` and `drift_check` have no meaning. Not with a solver, `accumulate` or a tensor
  /// axis.
  int local_steps = 1;
  AverageOptions average;
  data::SamplerPtr sampler;  ///< of the training samples; null: data::kDefaultSampler
  std::vector<data::AugmentationPtr>
      augment;  ///< of the training samples; the validation data stay as they are

  std::string monitor =
      "accuracy";  ///< "accuracy", "f1_macro" (higher is better) or "loss" of the validation data
  Keep keep = Keep::kLast;
  int patience = 0;      ///< stop after so many epochs without improvement; 0: never
  double min_delta = 0;  ///< an improvement is more than this

  int drift_check = 0;  ///< as EngineOptions
  ProgressMode progress = ProgressMode::kNone;
};

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
  /// The further streams that the objective reads, in its order (nn::ObjectiveNeeds::streams).
  std::vector<data::Stream> more = {};
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
/// `state` is the model's. The parts of the objective are trained beside it, from initial values that are a
/// function of the seed, are saved with it where training can continue, and are gone at the end.
///
/// Throws Error: options that don't fit, or an objective with needs that they cannot meet (usage), a loss that is not finite (names stage, step and layer), a
/// state that cannot be written. `state` is then undefined.
TrainResult train(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                  StateDict& state);

/// `options.transforms`, after those that come from other options.
std::vector<GradientTransformPtr> all_transforms(const TrainerOptions& options);

}  // namespace impart::train

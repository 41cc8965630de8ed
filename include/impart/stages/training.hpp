// What all stages that train share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "impart/comm/mesh.hpp"
#include "impart/core/settings.hpp"
#include "impart/nn/objective_options.hpp"
#include "impart/stages/deck.hpp"
#include "impart/train/options.hpp"
#include "impart/train/trainer.hpp"

namespace impart::stages {

class CheckContext;

/// A slice of a dataset's training part: slice `index` of `of` equal ones, dealt at random by the run's seed.
struct TrainPart {
  int index = 0;
  int of = 1;
};

/// What all stages that train share.
struct TrainingSettings {
  std::string dataset;
  TrainPart train_part;
  int epochs = 1;
  std::int64_t batch_size = 64;  ///< global; a multiple of the run's shards
  train::OptimizerOptions optimizer;
  std::optional<train::SolverOptions> solver;  ///< instead of the optimizer
  std::vector<train::GradientTransformPtr> transforms;
  train::ScheduleOptions schedule;
  train::AverageOptions average;
  int accumulate = 1;   ///< batches of one update
  int local_steps = 1;  ///< of each shard between two averages (local SGD)
  nn::ObjectiveOptions objective;
  train::Keep keep = train::Keep::kLast;
  std::string monitor = "accuracy";
  int patience = 0;                           ///< early_stopping.patience; 0: never stops early
  double min_delta = 0;                       ///< early_stopping.min_delta
  std::vector<train::ParameterGroup> groups;  ///< `freeze` becomes frozen groups
  std::vector<data::AugmentationPtr> augment;
  data::SamplerPtr sampler;
  std::uint64_t seed = 0;  ///< default: the run's
  comm::MeshShape mesh;    ///< of the ranks of the stage
};

/// `order = "cyclic"`: the training part is cut into `parts`, which stay where they are, and the model visits
/// them in turn (share::VisitOrder::kCyclic).
struct CyclicSettings {
  int parts = 8;   ///< default: the run's shards
  int rounds = 1;  ///< `epochs`: how often it goes round
};

/// What a stage calls the epochs and the batch of its training.
struct StepKeys {
  std::string_view epochs = "epochs";
  std::string_view batch = "batch_size";
};

/// `objective`: the kind that is trained by when the stage does not say it.
TrainingSettings read_training(Settings& stage, const Deck& deck, std::string_view objective,
                               const StepKeys& keys = {});
/// The same of a client of a federation.
TrainingSettings read_local_training(Settings& stage, const Deck& deck, std::string_view objective);

/// What needs all ranks at once, or looks at epochs of all the data, is a problem.
void check_cyclic(Settings& stage, const TrainingSettings& training);

/// "5 epochs", "newton".
std::string effort_text(const TrainingSettings& training);

/// A pattern of `groups` or `freeze` that matches no parameter of `spec` is a typing mistake.
void check_groups(CheckContext& context, const std::string& path, const TrainingSettings& training,
                  const nn::ModelSpec& spec);

}  // namespace impart::stages

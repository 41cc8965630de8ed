// The settings of whatever trains, read and checked in one place.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "impart/core/settings.hpp"
#include "impart/nn/objective.hpp"
#include "impart/train/capabilities.hpp"
#include "impart/train/trainer.hpp"

namespace impart::train {

/// A slice of a dataset's training part: slice `index` of `of` equal ones, dealt at random by the run's seed.
struct TrainPart {
  int index = 0;
  int of = 1;
};

/// What a stage calls the epochs and the batch of its training, and how much of it it has.
struct TrainingKeys {
  std::string_view epochs = "epochs";
  std::string_view batch = "batch_size";
  /// Of a client of a federation: no part, schedule, average, measured epochs, local steps or mesh.
  bool is_client = false;
};

/// What a stage that trains has been told. Its run adds an Execution and the stage's name to `options`.
struct Training {
  std::string dataset;
  TrainPart part;
  std::shared_ptr<const nn::Objective> objective;
  TrainerOptions options;

  /// "5 epochs", "newton".
  [[nodiscard]] std::string effort() const;
};

/// Reads it. `objective`: the kind that is minimised when neither the stage nor its solver says it. `seed`: the
/// run's. `stage_methods`: what the stage itself uses and rules out; they are compared with all that is read.
Training read_training(Settings& stage, std::string_view objective, std::uint64_t seed,
                       const TrainingKeys& keys = {}, std::span<const Capabilities> stage_methods = {});

/// `optimizer = { kind, ... }`: an optimizer, or a solver.
struct Method {
  OptimizerRulePtr optimizer;                    ///< null when there is a solver
  SolverPtr solver;                              ///< or null
  std::vector<GradientTransformPtr> transforms;  ///< clip_norm and clip_value of an optimizer
};
Method read_method(Settings& stage);

}  // namespace impart::train

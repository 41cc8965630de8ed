// Capabilities: what the methods of a run use, need and rule out, said by each of them as data and compared in
// one place.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "impart/core/problems.hpp"

namespace impart {
class Settings;
}

namespace impart::train {

/// What a run may have, in the order in which conflicts are told.
enum class Feature : std::uint8_t {
  kEpochs,             ///< its number is said
  kSchedule,           ///< of the learning rate
  kAccumulate,         ///< updates of several batches
  kLocalSteps,         ///< each shard trains by itself between two averages
  kAverage,            ///< of the weights along the run
  kFinalAverage,       ///< one that is kept instead of what the epochs left
  kKeep,               ///< which epoch's weights are kept is said
  kKeepBest,           ///< those of the best epoch
  kEarlyStopping,      ///< when the epochs get no better
  kPlateau,            ///< a schedule by what the epochs measured
  kValidation,         ///< data to measure epochs on
  kSampler,            ///< that is said
  kAugment,            ///< random changes of samples
  kMixing,             ///< of which some mix two samples and their labels
  kVaryingBatch,       ///< batches of any size, as a Poisson sampler has
  kGroupRates,         ///< learning rates of parameter groups
  kFreeze,             ///< parameters that are not trained
  kStatefulOptimizer,  ///< whose step depends on those before: anything but plain SGD
  kSolver,             ///< all the data at once, instead of step by step
  kTransforms,         ///< of the gradient
  kTensorAxis,         ///< tensors that are split over ranks
  kTeachers,           ///< an objective beyond labels
  kTaps,               ///< one that looks into the model, at several streams of data, or has parts of its own
  kSyncedNorm,         ///< statistics of the whole batch, over all shards
};

/// What one method says of itself.
struct Capabilities {
  struct Use {
    std::string key;        ///< the setting that has it
    std::string what = {};  ///< told in front of what is wrong with it: "layer 'bn1'"
  };
  struct Refusal {
    std::string text;
    bool at_own_key = false;  ///< told where this method is chosen, not where the feature is
  };

  std::string key;  ///< the setting that chooses the method: "optimizer"
  std::map<Feature, Use> uses = {};
  std::map<Feature, Refusal> refuses = {};
  std::map<Feature, std::string> needs = {};  ///< and what is wrong when nobody uses it
};

/// What two methods of a run do not agree on: a problem of the setting `key`.
struct Conflict {
  std::string key;
  std::string text;
  friend bool operator==(const Conflict&, const Conflict&) = default;
};

/// In the order of the features; none twice.
std::vector<Conflict> conflicts(std::span<const Capabilities> all);

/// Adds them to the problems of `stage`.
void report_conflicts(Settings& stage, std::span<const Capabilities> all);

}  // namespace impart::train

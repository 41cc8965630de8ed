// RunContext: the state of a run, as its stages see it.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/core/progress.hpp"
#include "impart/data/dataset.hpp"
#include "impart/data/partition.hpp"
#include "impart/data/parts.hpp"
#include "impart/share/federate.hpp"
#include "impart/share/model.hpp"
#include "impart/stages/deck.hpp"
#include "impart/stages/stage.hpp"
#include "impart/stages/training.hpp"

namespace impart::stages {

struct RunOptions {
  std::vector<std::string> only;  ///< stages to run; empty: all
  bool fresh = false;             ///< nothing is reused or continued
  bool trace = false;             ///< leaves trace.json in the run directory, if a stage runs
  int threads = 1;                ///< of this rank
  ProgressMode progress = ProgressMode::kAuto;
  const std::atomic<bool>* stop = nullptr;  ///< set by a signal handler; may be null
};

/// A model that a stage left, or that a file holds.
struct Artifact {
  std::filesystem::path path;
  std::string digest;
};

class RunContext {
 public:
  using EventSink = std::function<void(const std::string& stage, const train::TrainEvent&)>;

  /// All are borrowed. `on_event` is called on every rank.
  RunContext(const comm::Comm& comm, const Deck& deck, const RunOptions& options, EventSink on_event);

  /// The ranks of the current stage.
  [[nodiscard]] const comm::Comm& comm() const noexcept { return *comm_; }
  [[nodiscard]] const Deck& deck() const noexcept { return deck_; }
  [[nodiscard]] const RunOptions& options() const noexcept { return options_; }
  /// From now on stages run on `comm`, which is borrowed. Those that run beside others keep to plain lines of
  /// progress. What a stage of a part of the ranks reads, all must have read before.
  void use_ranks(const comm::Comm& comm, ProgressMode progress);

  /// Read once in a run, and shared by its stages. Collective at the first call for a name.
  const data::DataParts& data(const std::string& name);
  /// What `settings` say is trained on: a slice of the training part, or all of it. Collective, as `data`.
  data::DatasetPtr training_data(const TrainingSettings& settings);
  /// Where training starts: at the values of `init`, or if that is empty, at those of the seed. Collective.
  StateDict initial_state(const nn::ModelSpec& spec, const std::string& init,
                          const TrainingSettings& settings);
  /// The model of an earlier stage or a file. Collective at the first call for a name.
  const share::Model& model(const std::string& reference);

  /// What to tell the Trainer, beside its task.
  [[nodiscard]] train::TrainerOptions trainer_options(const std::string& stage,
                                                      const TrainingSettings& settings) const;
  /// train::seconds_per_sample, measured once in a run for models that are alike. Local.
  double seconds_per_sample(const nn::ModelSpec& spec, std::int64_t batch);
  /// Logs the events of `stage`.
  [[nodiscard]] std::function<void(const train::TrainEvent&)> event_sink(const std::string& stage) const;
  /// Where the current stage keeps what it needs to continue, and the identity of that state.
  [[nodiscard]] std::filesystem::path state_directory(const std::string& stage) const;
  [[nodiscard]] const std::string& state_key() const noexcept { return state_key_; }
  void set_state_key(std::string key) { state_key_ = std::move(key); }

  /// Artifacts by stage name.
  void put(const std::string& stage, Artifact artifact);
  /// The same, of a model that need not be read.
  void put(const std::string& stage, Artifact artifact, std::optional<share::Model> model);
  /// Digest and path of a stage's artifact or of a file; null when there is none. Local.
  [[nodiscard]] const Artifact* find(const std::string& reference) const;
  /// Frees the memory of a model that no later stage names.
  void forget(const std::string& reference) { models_.erase(reference); }

 private:
  const comm::Comm* comm_;
  const Deck& deck_;
  RunOptions options_;
  EventSink on_event_;
  std::string state_key_;
  std::map<std::string, data::DataParts> data_;
  std::map<std::string, Artifact> artifacts_;
  std::map<std::string, share::Model> models_;
  std::map<std::pair<std::string, std::int64_t>, double> sample_seconds_;  // by a model's JSON, and the batch
};

/// Reads a checkpoint on the root and gives it to all: the other ranks' file systems need not show it yet.
/// Collective. `digest` receives the root digest.
share::Model read_model(const comm::Comm& comm, const std::filesystem::path& path, std::string& digest);

/// Throws Error, on all ranks, when the model that `reference` names was trained on a text whose characters
/// have other indices than those of the dataset: neither its weights nor its outputs mean the same.
void require_same_characters(RunContext& context, const std::string& reference, const std::string& dataset);

/// Trains `state` as `settings` say, and makes the result of a stage of it. Collective.
StageResult train_model(RunContext& context, const std::string& stage, const TrainingSettings& settings,
                        const nn::ModelSpec& spec, const nn::Objective& objective,
                        const data::DatasetPtr& data, StateDict state);

/// The same with a federation of `clients`; of `options`, order, rounds and fraction_fit count. Collective.
StageResult federate_model(RunContext& context, const std::string& stage, const TrainingSettings& settings,
                           const nn::ModelSpec& spec, share::FederateOptions options,
                           std::vector<data::DatasetPtr> clients, StateDict state);

/// The parts of `data` that `deal` says. Collective; when `deal` throws on one rank, all throw.
std::vector<data::DatasetPtr> cut(const comm::Comm& comm, const data::DatasetPtr& data,
                                  const std::function<std::vector<data::Indices>()>& deal);

/// Seconds of one core for the steps of `settings`, as Stage::cost.
double training_cost(RunContext& context, const TrainingSettings& settings, const nn::ModelSpec& spec);

/// As Stage::least_ranks, of training by all ranks together: an nn::synced_layer needs two.
int least_training_ranks(const TrainingSettings& settings, const nn::ModelSpec& spec);

/// "validation.accuracy" ... of `model` on the dataset's validation part; nothing without a dataset.
/// Collective.
std::map<std::string, double> validation_metrics(RunContext& context, const std::string& dataset,
                                                 const share::Model& model);

}  // namespace impart::stages

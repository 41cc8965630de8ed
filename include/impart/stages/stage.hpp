// Stage: one step of a deck. A kind of stage is one file: its settings, its check, its run. Settings are in the
// stage, the state of the run is in the context.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "impart/comm/mesh.hpp"
#include "impart/core/registry.hpp"
#include "impart/io/checkpoint.hpp"
#include "impart/nn/spec.hpp"
#include "impart/share/ensemble/model.hpp"
#include "impart/stages/deck.hpp"
#include "impart/train/trainer.hpp"

namespace impart::stages {

class CheckContext;
class RunContext;

/// What every stage has, of whatever kind.
struct StageCommon {
  std::string name;
  std::string kind;  ///< empty when it is missing or unknown, which is a problem
  std::string path;  ///< "stage.teacher": where its problems are reported
  /// How many ranks run it, beside stages that it does not depend on: a number, or a part below 1 of all. 0:
  /// as suits its cost.
  double ranks = 0;
  std::string resolved;  ///< JSON of all settings, defaults too
};

/// What is known of a model before it exists.
struct ModelOutline {
  std::vector<nn::ModelSpec> members;  ///< several for an ensemble

  [[nodiscard]] bool is_ensemble() const noexcept { return members.size() > 1; }
  [[nodiscard]] const nn::ModelSpec& spec() const { return members.front(); }
};

/// A model that a stage reads, and what for.
struct ArtifactUse {
  std::string name;  ///< an earlier stage, or a path that ends in ".h5"
  std::string role;  ///< as in lineage: "init", "teacher", "member" ...
  double weight = 1.0;
};

/// All that a stage's result depends on beside its own settings.
struct StageUses {
  std::vector<ArtifactUse> artifacts;
  std::vector<std::string> models;    ///< [model.*]
  std::vector<std::string> datasets;  ///< [dataset.*]
};

/// One line of an evaluation.
struct Measurement {
  std::string model;
  std::string dataset;
  std::string part;
  std::int64_t samples = 0;
  std::map<std::string, double> metrics;
};

/// Where the time of one rank went.
struct RankTime {
  int rank = 0;  ///< of the run
  train::TrainSeconds seconds;
};

/// What a stage leaves in the run directory. Whoever keeps, reuses or traces artifacts knows these types, and no
/// kind of stage.
enum class ArtifactType : std::uint8_t {
  kModel,  ///< a checkpoint: StageResult::model
  kTable,  ///< rows of metrics: StageResult::measurements
};

struct StageResult {
  bool stopped = false;  ///< by a signal; its state is saved, and there is no artifact yet
  std::optional<share::Model> model;
  std::string note;  ///< what a reader should know of how it ended: "early, epoch 7 of 20"
  std::vector<Measurement> measurements;
  std::map<std::string, double> metrics;  ///< "validation.accuracy": 0.98
  std::map<std::string, std::vector<io::MetricPoint>> history;
  std::optional<io::ProgressRecord> progress;
  train::TrainSeconds seconds;
  std::string overlap;  ///< as train::TrainResult
};

class Stage {
 public:
  Stage() = default;
  virtual ~Stage() = default;
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  [[nodiscard]] const std::string& name() const noexcept { return common_.name; }
  [[nodiscard]] const std::string& path() const noexcept { return common_.path; }
  [[nodiscard]] const StageCommon& common() const noexcept { return common_; }
  /// Once, by whoever has read it.
  void set_common(StageCommon common) { common_ = std::move(common); }

  [[nodiscard]] virtual StageUses uses() const = 0;
  /// What it does, in a few words for the closing table: "distil small from ensemble".
  [[nodiscard]] virtual std::string describe() const = 0;
  [[nodiscard]] virtual ArtifactType leaves() const { return ArtifactType::kModel; }
  /// Name of the [model.*] whose weights it leaves; empty when the deck does not say it, as far as it is read.
  [[nodiscard]] virtual std::string model() const { return ""; }
  /// How it lays a model over its ranks.
  [[nodiscard]] virtual comm::MeshShape mesh() const { return {}; }
  /// Adds what is wrong to the context's problems. Returns what the stage will leave; nothing when it leaves
  /// no model, or when that cannot be known for a problem already told. Makes no MPI calls.
  virtual std::optional<ModelOutline> check(CheckContext& context) const = 0;
  /// Seconds that one core would take for it, about, measured here by a few samples; 0: little. Local.
  [[nodiscard]] virtual double cost(RunContext& /*context*/) const { return 0; }
  /// The fewest ranks that it can be dealt, where it does not say itself how many it wants. Local.
  [[nodiscard]] virtual int least_ranks(RunContext& /*context*/) const { return 1; }
  /// Collective over the context's ranks; equal results on all.
  virtual StageResult run(RunContext& context) const = 0;

 private:
  StageCommon common_;
};

/// The kinds of stages that a deck may have; each is made from its settings and from what stands in front of it in
/// the deck.
using StageKinds = Registry<std::unique_ptr<Stage>, const Deck&>;
const StageKinds& stage_kinds();

/// Reads what every stage has, and its kind's settings; null without a name, which is a problem. A stage of a
/// missing or unknown kind (a problem, too) does nothing. `deck` has all but the stages from this one on.
std::shared_ptr<const Stage> read_stage(Settings& settings, const Deck& deck);
/// Reads `name`, `kind` and `ranks`, as read_stage does; for the reference.
void document_stage(Settings& settings);

}  // namespace impart::stages

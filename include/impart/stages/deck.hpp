// Deck: the input file of a run, as plain structs (DESIGN.md, section 5).
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "impart/comm/mesh.hpp"
#include "impart/comm/reduction.hpp"
#include "impart/core/problems.hpp"
#include "impart/core/tensor.hpp"
#include "impart/nn/objective_options.hpp"
#include "impart/nn/spec.hpp"
#include "impart/share/ensemble/model.hpp"
#include "impart/share/transfer/transfer.hpp"
#include "impart/train/options.hpp"
#include "impart/train/trainer.hpp"

namespace impart::stages {

/// [run]
struct RunSettings {
  std::string name;             ///< default: the deck's file name without ".toml"
  std::string output = "runs";  ///< the run directory is output/name, relative to the working directory
  std::uint64_t seed = 0;
  int shards = 8;      ///< of a global batch; results do not depend on the rank count, which must divide it
  std::string wisdom;  ///< a file of impart bench --tune, relative to the deck; empty: the rule's kernels
  int drift_check = 100;      ///< steps from one check that ranks have equal weights to the next; 0: never
  double stall_warning = 60;  ///< seconds of waiting for a rank after which it is named; 0: never
  double stall_abort = 1800;  ///< and after which the job ends
  bool reproducible = true;   ///< false: ranks' gradients are added in any order
  comm::Overlap overlap = comm::Overlap::kAuto;  ///< of reduction and backward pass
};

enum class DataFormat : std::uint8_t { kIdx, kCsv, kCifar, kHdf5, kText };

/// One number for each part of a dataset, in the order train, validation, test.
enum class Part : std::uint8_t { kTrain, kValidation, kTest, kAll };
inline constexpr std::array<std::string_view, 3> kPartNames = {"train", "validation", "test"};
std::string_view part_name(Part part);

/// [dataset.NAME]
struct DatasetSettings {
  std::string name;
  DataFormat format = DataFormat::kIdx;
  /// idx: images, labels (if any); csv, hdf5, text: one; cifar: one or more
  std::vector<std::filesystem::path> files;
  int classes = 10;                  ///< csv, hdf5 and text must say it
  Shape shape;                       ///< of one sample; empty: as the file has it
  bool header = false;               ///< csv
  std::string label = "-1";          ///< csv: column by name or index, negative from the end; empty: none
  char separator = ',';              ///< csv
  std::string samples = "samples";   ///< hdf5: path in the file
  std::string labels = "labels";     ///< hdf5: path in the file; empty: none
  std::int64_t context = 64;         ///< text: characters of a sample
  std::int64_t stride = 0;           ///< text: from one sample to the next; 0: `context`
  std::filesystem::path vocabulary;  ///< text: the file whose characters it is; empty: the text

  std::array<double, 3> split = {
      1, 0, 0};  ///< fractions of the parts, sum at most 1: dealt by the samples' digests, of a text in order
  std::array<std::int64_t, 3> limit = {};  ///< samples of each class that a part keeps; 0: all
  Shape resize;                            ///< (height, width); empty: not resized
  std::optional<double> scale;             ///< default: 1/255 for bytes, 1 for floats
  bool normalise = true;                   ///< by mean and deviation of the training part, for each channel
  std::vector<double> mean;                ///< normalise.mean: these instead; one for each channel
  std::vector<double> deviation;           ///< normalise.deviation

  std::string resolved;  ///< JSON of all settings, defaults too
};

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
  std::uint64_t seed = 0;  ///< default: the run's
  comm::MeshShape mesh;    ///< of the ranks of the stage
};

/// `order = "cyclic"`: the training part is cut into `parts`, which stay where they are, and the model visits
/// them in turn (share::cyclic_transfer).
struct CyclicSettings {
  int parts = 8;   ///< default: the run's shards
  int rounds = 1;  ///< `epochs`: how often it goes round
};

struct TrainSettings {
  std::string model;
  std::string init;  ///< stage or .h5 to start from; empty: initial values by the seed
  TrainingSettings training;
  /// Then `training` is that of one visit: its `epochs` are `local_epochs`, its `batch_size`
  /// `local_batch_size`.
  std::optional<CyclicSettings> cyclic;
};

struct TransferSettings {
  std::string from;
  std::string model;  ///< empty: the source's, with the dataset's classes
  share::Head head = share::Head::kAuto;
  TrainingSettings training;
};

struct MergeSettings {
  std::vector<std::string> inputs;
  std::string method = "average";
  std::vector<double> weights;  ///< one for each input; empty: all equal
  std::string dataset;          ///< to measure the result on; may be empty
  std::string recalibrate;      ///< whose training part gives batch norms their statistics; may be empty
  std::int64_t batch_size = 0;  ///< for these; a multiple of the run's shards
};

struct EnsembleSettings {
  std::vector<std::string> members;
  std::vector<double> weights;
  share::Voting voting = share::Voting::kSoft;
  std::string dataset;
};

struct DistilSettings {
  std::vector<std::string> teachers;  ///< their probabilities are averaged
  std::string model;
  double kd_weight = 0.5;
  double temperature = 4.0;
  TrainingSettings training;
};

enum class PartitionKind : std::uint8_t { kIid, kDirichlet };

struct FederateSettings {
  std::string model;
  std::string init;
  int clients = 2;
  int rounds = 1;
  double fraction_fit = 1.0;
  PartitionKind partition = PartitionKind::kIid;
  double alpha = 0.5;             ///< kDirichlet
  std::int64_t min_samples = 10;  ///< kDirichlet: of each client
  TrainingSettings training;      ///< of one client in one round; `epochs` is `local_epochs`
};

struct EvaluateSettings {
  std::vector<std::string> models;
  std::vector<std::string> datasets;
  Part part = Part::kValidation;
};

using AnySettings = std::variant<TrainSettings, TransferSettings, MergeSettings, EnsembleSettings,
                                 DistilSettings, FederateSettings, EvaluateSettings>;

/// [[stage]]
struct StageSettings {
  std::string name;
  std::string kind;  ///< empty when it is missing or unknown, which is a problem
  std::string path;  ///< "stage.teacher": where its problems are reported
  /// How many ranks run it, beside stages that it does not depend on: a number, or a part below 1 of all. 0:
  /// as suits its cost.
  double ranks = 0;
  std::string resolved;  ///< JSON of all settings, defaults too
  AnySettings settings;
};

struct Deck {
  std::filesystem::path path;
  RunSettings run;
  std::vector<DatasetSettings> datasets;
  std::vector<nn::ModelSpec> models;
  std::map<std::string, std::string> architectures;  ///< of models that are of the zoo: their `arch`
  std::vector<StageSettings> stages;
  Places places;
  std::vector<std::string> overrides;  ///< the `--set` that are in it

  [[nodiscard]] const DatasetSettings* find_dataset(std::string_view name) const;
  [[nodiscard]] const nn::ModelSpec* find_model(std::string_view name) const;
  /// What a model is trained with when a stage does not say it: nn::zoo_objective of its `arch`.
  [[nodiscard]] nn::ObjectiveKind objective_of(const std::string& model) const;
  [[nodiscard]] std::filesystem::path run_directory() const;
  /// A path in the deck, which is relative to the deck's directory.
  [[nodiscard]] std::filesystem::path resolve(const std::string& file) const;
};

/// Reads a deck from `text`; `path` is where it came from. `overrides` are the `--set` of the command line,
/// "key=value". Syntax, unknown keys, types and ranges are checked here, and whatever is wrong is added to
/// `problems`; what is left out of the result for it is not reported again. No file but the deck is looked
/// at. No communication.
Deck read_deck(const std::string& text, const std::filesystem::path& path,
               const std::vector<std::string>& overrides, Problems& problems);

/// The mesh that a stage asks for: of stages that do not train, all ranks on the data axis.
comm::MeshShape mesh_of(const StageSettings& stage);

/// True when a stage's input names a file and not a stage.
bool is_checkpoint_file(std::string_view reference);

}  // namespace impart::stages

// Deck: the input file of a run, read (DESIGN.md, section 5).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "impart/comm/reduction.hpp"
#include "impart/core/problems.hpp"
#include "impart/core/settings.hpp"
#include "impart/data/dataset_settings.hpp"
#include "impart/nn/spec.hpp"

namespace impart::stages {

class Stage;

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

/// Reads [run] whole. What `run` holds are the defaults.
void read_run(Settings& settings, RunSettings& run);

/// [dataset.NAME]
struct DatasetEntry {
  std::string name;
  data::DatasetSettings settings;
  std::string resolved;  ///< JSON of all settings, defaults too
};

struct Deck {
  std::filesystem::path path;
  RunSettings run;
  std::vector<DatasetEntry> datasets;
  std::vector<nn::ModelSpec> models;
  std::map<std::string, std::string> architectures;  ///< of models that are of the zoo: their `arch`
  std::vector<std::shared_ptr<const Stage>> stages;  ///< [[stage]], in their order
  Places places;
  std::vector<std::string> overrides;  ///< the `--set` that are in it

  [[nodiscard]] const DatasetEntry* find_dataset(std::string_view name) const;
  [[nodiscard]] const nn::ModelSpec* find_model(std::string_view name) const;
  [[nodiscard]] const Stage* find_stage(std::string_view name) const;
  /// The kind of objective that a model is trained with when a stage does not say it: nn::zoo_objective of its
  /// `arch`.
  [[nodiscard]] std::string_view objective_of(const std::string& model) const;
  [[nodiscard]] std::filesystem::path run_directory() const;
  /// A path in the deck, which is relative to the deck's directory.
  [[nodiscard]] std::filesystem::path resolve(const std::string& file) const;
};

/// What a deck is read for.
enum class DeckUse : std::uint8_t {
  kRun,    ///< its stages, of which there is at least one
  kParts,  ///< a model or a dataset of it
};

/// Reads a deck from `text`; `path` is where it came from. `overrides` are the `--set` of the command line,
/// "key=value". Syntax, unknown keys, types and ranges are checked here, and whatever is wrong is added to
/// `problems`; what is left out of the result for it is not reported again. No file but the deck is looked
/// at. No communication.
Deck read_deck(const std::string& text, const std::filesystem::path& path,
               const std::vector<std::string>& overrides, Problems& problems, DeckUse use = DeckUse::kRun);

/// True when a stage's input names a file and not a stage.
bool is_checkpoint_file(std::string_view reference);

}  // namespace impart::stages

// CheckContext: what stages ask while a deck is checked.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "impart/core/problems.hpp"
#include "impart/stages/deck.hpp"
#include "impart/stages/stage.hpp"
#include "impart/train/read_training.hpp"

namespace impart::stages {

struct CheckOptions {
  int ranks = 1;
  bool ranks_known = true;          ///< false: nobody has said them, and what needs several may get them
  int threads = 1;                  ///< of a rank; they share its memory
  std::size_t memory_per_rank = 0;  ///< bytes; 0: the memory of this machine is the limit, for its ranks
  int ranks_of_node = 1;            ///< that share this machine's memory
  std::vector<std::string> only;    ///< stages that will run; empty: all
  /// Stages that an earlier run has finished and this one reuses. As those not in `only`, they need neither
  /// ranks nor memory.
  std::vector<std::string> finished = {};
};

/// What is known of a dataset from its settings and its files' headers.
struct DatasetOutline {
  Shape shape;  ///< of one sample, resized
  int classes = 0;
  std::int64_t samples = 0;
  std::int64_t train_samples = 0;
  std::int64_t labels_per_sample = 1;
  bool has_part[3] = {};
};

/// Who trains a stage's model, by its batches.
enum class Trainees : std::uint8_t {
  kRanks,    ///< all ranks, together
  kInTurn,   ///< each rank alone, one after another, on a part of the data
  kClients,  ///< threads, each alone, on a client's data
};

/// Each finder returns null when there is no such thing, or it has problems of its own; the problem is told
/// once.
class CheckContext {
 public:
  CheckContext(const Deck& deck, const CheckOptions& options, Problems& problems);

  [[nodiscard]] const Deck& deck() const noexcept { return deck_; }
  /// False for a stage that was not asked for: what ranks and memory it would need does not matter.
  [[nodiscard]] bool will_run(const Stage& stage) const;
  void problem(const std::string& path, std::string_view text);

  const nn::ModelSpec* model(const std::string& path, const std::string& name);
  const DatasetOutline* dataset(const std::string& path, const std::string& name);
  /// The model of an earlier stage or of a checkpoint file.
  const ModelOutline* artifact(const std::string& path, const std::string& reference);
  /// The same, which must be one network and not an ensemble.
  const nn::ModelSpec* network(const std::string& path, const std::string& reference);

  /// A model's input and classes against a dataset's.
  void match(const std::string& path, const nn::ModelSpec& spec, const DatasetOutline& dataset,
             const std::string& dataset_name);
  void need_part(const std::string& path, const std::string& dataset_name, const DatasetOutline& dataset,
                 data::Part part);
  /// The dataset, if one is named, on whose validation part a model of `spec` is measured.
  void measured(const std::string& path, const std::string& dataset_name, const nn::ModelSpec& spec);
  /// A training of `spec` that has so few samples in all, as the setting at `path` brings with it: whether a
  /// batch norm can take statistics of them.
  void few_samples(const std::string& path, std::int64_t samples, const nn::ModelSpec& spec,
                   std::span<const train::ParameterGroup> groups);
  /// The model that `reference` names, if any, as the start of one that must be of the same architecture.
  void init(const std::string& path, const std::string& reference, const nn::ModelSpec& spec);
  /// Training of `spec` at the stage `path`: dataset, shapes, batch, mesh, memory.
  void training(const std::string& path, const train::Training& settings, const nn::ModelSpec& spec,
                Trainees trainees = Trainees::kRanks);
  /// A pass over a dataset for the statistics of `spec`, in batches of so many samples: shards, memory.
  void recalibration(const std::string& path, const nn::ModelSpec& spec, std::int64_t batch_size);
  /// The deck's stages that come before the one being checked have left these.
  void leave(const std::string& stage, std::optional<ModelOutline> outline);

  /// Bytes of all artifacts and states on disk.
  [[nodiscard]] std::uintmax_t disk_bytes() const noexcept { return disk_bytes_; }
  [[nodiscard]] std::size_t data_bytes() const noexcept { return data_bytes_; }
  /// What the stages that train take, a line each; and what may surprise.
  [[nodiscard]] const std::vector<std::string>& notes() const noexcept { return notes_; }

 private:
  std::optional<DatasetOutline> open(const DatasetEntry& dataset);
  [[nodiscard]] const Stage& stage_at(const std::string& path) const;
  void check_samples(const std::string& path, const train::Training& training, const DatasetOutline& data);
  void check_methods(const std::string& path, const train::Training& training, const nn::ModelSpec& spec,
                     const DatasetOutline* data);
  std::optional<comm::MeshShape> check_mesh(const std::string& path, const train::Training& settings,
                                            const nn::ModelSpec& spec, Trainees trainees);
  void check_updates(const std::string& path, const train::Training& settings, std::int64_t samples);
  void check_split(const std::string& path, const comm::MeshShape& mesh, const nn::ModelSpec& spec);
  void check_shards(const std::string& path, const char* key, std::int64_t batch_size, int shards,
                    const nn::ModelSpec& spec, std::span<const train::ParameterGroup> groups);
  /// Bytes of a rank.
  [[nodiscard]] std::size_t memory_limit() const;
  void check_sync(const std::string& path, const train::Training& settings, const nn::ModelSpec& spec,
                  const comm::MeshShape& mesh, Trainees trainees);
  void check_needs(const std::string& path, const train::Training& settings, const nn::ModelSpec& spec,
                   Trainees trainees);

  const Deck& deck_;
  const CheckOptions& options_;
  Problems& problems_;
  std::map<std::string, std::optional<DatasetOutline>, std::less<>> datasets_;
  std::map<std::string, std::optional<ModelOutline>, std::less<>> artifacts_;
  std::vector<std::string> notes_;
  std::size_t data_bytes_ = 0;
  std::uintmax_t disk_bytes_ = 0;
};

}  // namespace impart::stages

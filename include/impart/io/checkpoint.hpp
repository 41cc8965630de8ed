// Checkpoint: a model in one HDF5 file, with what it was made from (DESIGN.md, section 7: format 1).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "impart/core/state_dict.hpp"

namespace impart::io {

/// What the parameters belong to. `spec` is opaque here: JSON that nn or share can read.
struct ModelRecord {
  std::string spec;
  Shape input_shape;
  int classes = 0;
};

/// An artifact that this one was made from.
struct ParentRecord {
  std::string digest;  ///< the parent's root digest, in hexadecimal
  std::string path;    ///< where it was, relative to this file's directory
  std::string role;    ///< "init", "teacher", "member", "resume" ...
  double weight = 1.0;
};

/// A dataset that this artifact was made with.
struct DataRecord {
  std::string name;
  std::string fingerprint;
  std::int64_t samples = 0;
};

struct LineageRecord {
  std::string stage;  ///< JSON: the resolved settings of the stage that made it
  int ranks = 1;
  std::string mesh;     ///< "data=2"
  std::string isa;      ///< the kernels' instruction set
  std::string kernels;  ///< library versions, and what chose among kernels
  std::vector<ParentRecord> parents;
  std::vector<DataRecord> data;
};

/// An optimizer's state: tensors with the parameters' names, in one StateDict for each slot ("momentum";
/// "exp_avg").
struct OptimizerRecord {
  std::string kind;
  std::vector<std::pair<std::string, StateDict>> slots;
};

/// Where training stands. `extra` holds small numbers of the trainer (best metric, patience).
struct ProgressRecord {
  std::string stage;
  std::int64_t epoch = 0;
  std::int64_t step = 0;
  std::int64_t samples = 0;
  std::uint64_t seed = 0;
  std::map<std::string, double> extra;
};

struct MetricPoint {
  std::int64_t step = 0;
  double value = 0;
};

/// Everything in a checkpoint file. Move-only, as the state is.
struct Checkpoint {
  ModelRecord model;
  StateDict state;
  std::optional<OptimizerRecord> optimizer;
  std::optional<ProgressRecord> progress;
  LineageRecord lineage;
  std::map<std::string, std::vector<MetricPoint>> metrics;
  std::string created;  ///< ISO 8601, UTC; set by `write_checkpoint`
  std::string digest;   ///< root digest, hexadecimal; set by `write_checkpoint`
};

/// A tensor of a checkpoint without its values.
struct TensorInfo {
  std::string name;
  Shape shape;
  StateKind kind = StateKind::kParameter;
  std::string digest;  ///< hexadecimal
};

struct OptimizerSummary {
  std::string kind;
  std::vector<std::pair<std::string, std::vector<TensorInfo>>> slots;
};

/// What a checkpoint says, without the values of its tensors: cheap to read, however large the model.
struct CheckpointSummary {
  ModelRecord model;
  std::vector<TensorInfo> tensors;  ///< parameters and buffers, in the order of the model
  std::optional<OptimizerSummary> optimizer;
  std::optional<ProgressRecord> progress;
  LineageRecord lineage;
  std::map<std::string, std::vector<MetricPoint>> metrics;
  std::string created;  ///< ISO 8601, UTC
  std::string writer;   ///< version of the program that wrote it
  std::string digest;   ///< root digest, hexadecimal

  /// Scalar parameters, as users count them.
  [[nodiscard]] std::int64_t parameter_count() const;
};

/// Digest over the model record, parameters and buffers: equal models have equal digests.
std::string root_digest(const ModelRecord& model, const StateDict& state);

/// Writes `checkpoint` to `path` so that the file is complete or absent: written beside, flushed to disk,
/// read back and checked, renamed, and the directory flushed. Sets `created` and `digest`. Throws Error; an
/// older file stays as it was.
void write_checkpoint(const std::filesystem::path& path, Checkpoint& checkpoint);

/// Reads and verifies every digest. Throws Error that names the file, and what in it is missing, of wrong
/// type or size, or does not match its digest. Sizes are checked before memory is allocated.
Checkpoint read_checkpoint(const std::filesystem::path& path);

/// Reads all but the values, which are neither read nor verified. Throws Error as `read_checkpoint` does.
CheckpointSummary read_summary(const std::filesystem::path& path);

/// Reads single tensors of a checkpoint, for whoever needs not all of them at once: a merge of models that are
/// larger than memory. Move-only. Two may read one file; one is used by one thread at a time.
class CheckpointReader {
 public:
  /// Opens the file, reads its summary, and verifies that against its digests. Throws Error as
  /// `read_checkpoint` does.
  explicit CheckpointReader(const std::filesystem::path& path);
  CheckpointReader(CheckpointReader&& other) noexcept;
  CheckpointReader& operator=(CheckpointReader&& other) noexcept;
  ~CheckpointReader();

  [[nodiscard]] const std::filesystem::path& path() const noexcept;
  [[nodiscard]] const CheckpointSummary& summary() const noexcept;
  /// The tensors of the model, in its order.
  [[nodiscard]] const StateLayoutPtr& layout() const noexcept;
  /// Reads one of them, and verifies its digest. `values`: row-major. Throws Error when there is none of
  /// that name, when it has another number of values, or is damaged.
  void read(std::string_view tensor, std::span<float> values) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The newest `step-*.h5` in `directory` that reads without error, by step; a damaged one is passed over with
/// a warning. Nothing when there is none, or no directory.
std::optional<std::pair<std::filesystem::path, Checkpoint>> read_newest(
    const std::filesystem::path& directory);

/// One finding of `verify_checkpoint`.
struct Finding {
  std::string object;   ///< "/parameters/conv1.weight"
  std::string problem;  ///< "digest does not match"
};

/// Every tensor and the root against its digest. Throws Error when the file cannot be read as a checkpoint at
/// all.
std::vector<Finding> verify_checkpoint(const std::filesystem::path& path);

/// Writes checkpoints in a thread of its own, one after another, and keeps the newest `keep` in a directory.
/// Errors of the thread are thrown by the next call of `submit` or `finish`. Makes no MPI calls.
class CheckpointWriter {
 public:
  explicit CheckpointWriter(int keep = 2);
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  ~CheckpointWriter();  ///< waits for the thread; logs what `finish` would have thrown

  /// Takes the snapshot and returns as soon as the previous one is written; `directory`/step-%08d.h5 is made.
  void submit(const std::filesystem::path& directory, Checkpoint snapshot);
  void finish();  ///< waits until all is on disk

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace impart::io

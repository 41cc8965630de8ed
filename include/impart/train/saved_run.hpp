// SavedRun: the states on disk from which a stopped stage continues.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "impart/comm/comm.hpp"
#include "impart/comm/mesh.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/io/checkpoint.hpp"
#include "impart/nn/spec.hpp"

namespace impart::train {

/// Keeps the states `directory`/step-*.h5 of one run. The root writes them, in a thread of its own; every
/// rank reads them. With an empty directory nothing is written and nothing found.
class SavedRun {
 public:
  /// Borrows `comm` and `spec`, the whole model. `mesh` is for lineage. `key` says whose states these are:
  /// those of another key are not continued. `layout`: of the states; null: the model's.
  SavedRun(const comm::Comm& comm, const comm::MeshShape& mesh, const nn::ModelSpec& spec,
           std::filesystem::path directory, std::string key, StateLayoutPtr layout = nullptr);

  /// The newest state, with its path; throws Error when it holds another model. Local.
  [[nodiscard]] std::optional<std::pair<std::filesystem::path, io::Checkpoint>> newest() const;
  /// A checkpoint of `state` that carries the key; the caller adds the rest.
  [[nodiscard]] io::Checkpoint snapshot(StateDict state) const;
  /// Hands what `make` returns, which is called on the root alone, to the writing thread. Returns the seconds
  /// that the caller has waited. Collective; throws on all ranks when an earlier state could not be written.
  double save(const std::function<io::Checkpoint()>& make);
  /// Writes `directory`/`name` now. As `save` in all else.
  double save_as(const std::string& name, const std::function<io::Checkpoint()>& make);
  /// Waits until all is on disk. Collective.
  void finish();

  [[nodiscard]] const std::filesystem::path& directory() const noexcept { return directory_; }

 private:
  double write(const std::function<void()>& on_root);

  const comm::Comm& comm_;
  comm::MeshShape mesh_;
  const nn::ModelSpec& spec_;
  std::filesystem::path directory_;
  std::string key_;
  StateLayoutPtr layout_;
  io::CheckpointWriter writer_;
};

}  // namespace impart::train

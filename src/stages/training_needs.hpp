// What training takes of each rank: memory, and what it sends to the others.
#pragma once

#include <cstddef>
#include <string>

#include "impart/comm/mesh.hpp"
#include "impart/nn/spec.hpp"
#include "impart/stages/training.hpp"

namespace impart::stages {

struct TrainingNeeds {
  comm::MeshShape mesh;
  // Bytes of a rank.
  std::size_t data = 0;
  std::size_t parameters = 0;
  std::size_t gradients = 0;
  std::size_t optimizer = 0;
  std::size_t activations = 0;
  std::size_t scratch = 0;
  std::size_t checkpoint =
      0;  ///< of the rank that writes: a copy of what is saved, and the file, made in memory
  std::size_t program = 0;  ///< and its libraries
  // Bytes that a rank sends in one step along each axis.
  double data_axis = 0;
  double tensor_axis = 0;

  [[nodiscard]] std::size_t memory() const noexcept {
    return data + parameters + gradients + optimizer + activations + scratch + checkpoint + program;
  }
  /// Of `ranks` ranks of a node, which share the data, and of which one writes checkpoints.
  [[nodiscard]] std::size_t memory_of_node(int ranks) const noexcept {
    const auto shared = data + checkpoint;
    return shared + static_cast<std::size_t>(ranks) * (memory() - shared);
  }
  /// "data 1 MB, parameters 20 MB, ..."
  [[nodiscard]] std::string kinds() const;
  /// The line of `impart check`.
  [[nodiscard]] std::string describe() const;
};

/// "0.3 MB", "12 MB".
std::string megabytes(double bytes);

/// Arrays of the parameters' size that go with the weights into a saved state.
std::size_t saved_slots(const TrainingSettings& settings);

/// Of a rank of `mesh`, which fits the ranks and the shards; `data`: bytes of the datasets. When parameters
/// and what goes with them take more than `limit`, activations and scratch are left out: there may not even
/// be room to plan them. Throws Error as parallel::plan_tensors does.
TrainingNeeds training_needs(const TrainingSettings& settings, const nn::ModelSpec& spec,
                             const comm::MeshShape& mesh, int shards, int threads, std::size_t data,
                             std::size_t limit);

}  // namespace impart::stages

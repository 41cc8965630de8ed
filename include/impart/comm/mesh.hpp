// Mesh: the ranks of a run as data x pipeline x tensor axes.
#pragma once

#include <string>

#include "impart/comm/comm.hpp"

namespace impart::comm {

/// Extents of the axes. Ranks along `data` hold the same weights and other samples; along `tensor`, the same
/// samples and other slices of the weights; along `pipeline`, other layers.
struct MeshShape {
  int data = 0;      ///< 0: as many as there are ranks for
  int pipeline = 1;  ///< only 1 yet
  int tensor = 1;

  friend bool operator==(const MeshShape&, const MeshShape&) = default;
};

/// `shape` with its data axis filled in. Throws Error (usage) unless the extents multiply to `ranks`.
MeshShape fit_mesh(const MeshShape& shape, int ranks);

/// "data=2", "data=2 tensor=4": as lineage has it.
std::string describe(const MeshShape& shape);

/// One rank's place in a mesh, and the groups of ranks along each axis through it. Ranks of one node are
/// neighbours on the tensor axis, then on the pipeline axis, wherever `mpirun` has put them. The first rank
/// of the group is that of the mesh: place 0 on every axis.
class Mesh {
 public:
  /// Collective over `comm`, which it borrows. Throws as fit_mesh does, on all ranks. A group of one rank
  /// makes no MPI calls.
  Mesh(const Comm& comm, const MeshShape& shape);

  [[nodiscard]] const MeshShape& shape() const noexcept { return shape_; }
  [[nodiscard]] const Comm& all() const noexcept { return all_; }
  [[nodiscard]] const Comm& data() const noexcept { return data_; }
  [[nodiscard]] const Comm& pipeline() const noexcept { return pipeline_; }
  [[nodiscard]] const Comm& tensor() const noexcept { return tensor_; }

 private:
  const Comm& all_;
  MeshShape shape_;
  Comm data_;
  Comm pipeline_;
  Comm tensor_;
};

}  // namespace impart::comm

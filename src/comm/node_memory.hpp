// NodeMemory: memory of each rank of a node that all of them read and write.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <span>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/core/aligned.hpp"

namespace impart::comm {

/// Whether the node has room for what its ranks ask for together; the same answer on all of `node`.
bool node_has_room(const Comm& node, std::size_t bytes);

/// An MPI-3 shared window, zero at first, each rank's part of which lies near it. A rank alone has ordinary
/// memory.
class NodeMemory {
 public:
  NodeMemory(const Comm& node, std::size_t bytes);  ///< collective
  NodeMemory(const NodeMemory&) = delete;
  NodeMemory& operator=(const NodeMemory&) = delete;
  ~NodeMemory();  ///< collective

  /// The part of that rank of the node, on a cache line.
  [[nodiscard]] std::span<std::byte> of(int rank) const noexcept {
    return parts_[static_cast<std::size_t>(rank)];
  }

 private:
  AlignedBuffer<std::byte> own_;
  MPI_Win window_ = MPI_WIN_NULL;
  std::vector<std::span<std::byte>> parts_;
};

}  // namespace impart::comm

// NodeMemory: memory that the ranks of a node share.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/core/aligned.hpp"

namespace impart::comm {

/// Whether the node has room for what its ranks ask for together; the same answer on all of `node`. A window
/// for which there is none would end the process with a signal when it is written.
bool node_has_room(const Comm& node, std::size_t bytes);

/// Throws Error on all ranks of `comm` when one of its nodes has no room for that. Collective over `comm`.
void check_node_room(const Comm& comm, const Comm& node, std::size_t bytes);

/// Memory of each rank of a node that all of them read and write: an MPI-3 shared window, zero at first, each
/// rank's part of which lies near it. A rank alone has ordinary memory. REQUIRES: the node has room.
class NodeMemory {
 public:
  NodeMemory(const Comm& node, std::size_t bytes);  ///< collective, unless the rank is alone
  NodeMemory(const NodeMemory&) = delete;
  NodeMemory& operator=(const NodeMemory&) = delete;
  ~NodeMemory();  ///< collective: all ranks release theirs in the same order

  /// The part of that rank of the node, on a cache line; it may be longer than what was asked for.
  [[nodiscard]] std::span<std::byte> of(int rank) const noexcept {
    return parts_[static_cast<std::size_t>(rank)];
  }

 private:
  AlignedBuffer<std::byte> own_;
  MPI_Win window_ = MPI_WIN_NULL;
  std::vector<std::span<std::byte>> parts_;
};

/// Memory of a node that one of its ranks writes and all of them read.
class NodeBuffer {
 public:
  /// Collective over `comm`. All ranks of a node give the same size, in bytes. Throws Error on all ranks when
  /// a node has not so much.
  NodeBuffer(const Comm& comm, std::size_t size);

  /// The memory; `is_writer` says whether this rank is the one of its node that fills it.
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] bool is_writer() const noexcept { return node_.is_root(); }
  /// Collective: after it, all ranks see what the writer wrote.
  void publish() const { node_.barrier(); }

 private:
  Comm node_;
  std::optional<NodeMemory> memory_;
  std::span<std::byte> bytes_;
};

}  // namespace impart::comm

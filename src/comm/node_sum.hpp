// NodeSum: a sum over ranks that share memory, of values that lie anywhere.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "comm/tree_exchange.hpp"
#include "impart/comm/comm.hpp"
#include "impart/comm/node_memory.hpp"

namespace impart::comm {

/// Chunk after chunk, each rank puts its parts where all can read them, waits for the others to have done so,
/// and sums all of them in the shards' fixed tree. There are two places, in turn: who puts a chunk knows by
/// the chunk before it that all have read the one before that. So a chunk costs one wait.
template <class T>
class NodeSum {
 public:
  /// Null when the ranks of `comm` do not share memory, or have not enough. Collective.
  static std::unique_ptr<NodeSum> make(const Comm& comm, const TreeMembers& members);

  NodeSum(const Comm& node, const TreeMembers& members);

  /// As TreeReducer::sum.
  void sum(std::span<const std::span<T>> parts);

 private:
  /// A rank's part, in each of the two places.
  struct Part {
    T* places[2];
  };

  void wait_for_all() const;
  void add_up(std::size_t place, std::span<T> out);

  const TreeMembers& members_;
  std::size_t rank_;
  NodeMemory memory_;
  std::vector<std::atomic<std::uint64_t>*> puts_;  // of each rank: chunks, since the beginning
  std::vector<Part> parts_;                        // of all ranks
  std::size_t first_part_ = 0;                     // of this rank
  std::uint64_t chunks_ = 0;
  std::vector<T> block_;
  int spins_;
};

}  // namespace impart::comm

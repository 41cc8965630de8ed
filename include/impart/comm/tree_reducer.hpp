// TreeReducer: sums over ranks whose bits do not depend on the number of ranks.
#pragma once

#include <memory>
#include <span>

#include "impart/comm/comm.hpp"
#include "impart/comm/shards.hpp"

namespace impart::comm {

/// The part of the shards' fixed tree that lies between ranks. A power of two of ranks sums by recursive
/// halving and doubling (Rabenseifner 2004; Thakur, Rabenseifner, Gropp 2005), neighbours first, which is
/// that tree; any other number by a direct reduce-scatter, in which each rank adds one slice of all partial
/// sums in the tree's order, and an allgather. Ranks that share memory put their parts there, and each sums
/// all.
///
/// Keeps memory for what it receives.
template <class T>
class TreeReducer {
 public:
  /// Each rank brings one array: its shard. Borrows `comm`.
  explicit TreeReducer(const Comm& comm) : TreeReducer(comm, comm.size()) {}
  /// Each rank brings the partial sums of its shards_of_rank. `share_memory`: ranks of one node sum in memory
  /// that they share, which is faster. Throws as check_rank_count does.
  TreeReducer(const Comm& comm, int shards, bool share_memory = true);
  TreeReducer(TreeReducer&&) noexcept;
  TreeReducer& operator=(TreeReducer&&) noexcept;
  ~TreeReducer();  ///< collective, once it has summed

  /// `parts`: partial_sums(shards_of_rank(rank, ranks, shards), shards), each of any length that is the same
  /// everywhere. The sum is left in parts[0] on every rank; the others are overwritten. `what` names the
  /// sum as Waiting does.
  void sum(std::span<const std::span<T>> parts, const char* what = "sum in the fixed tree");
  /// The same for a rank with a single partial sum.
  void sum_in_place(std::span<T> values, const char* what = "sum in the fixed tree") {
    sum({&values, 1}, what);
  }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace impart::comm

// TreeExchange: one sum over the members of a Comm, in the shards' fixed tree, that others can compute beside.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <span>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/comm/shards.hpp"

namespace impart::comm {

/// What every exchange of the same members needs to know of them.
struct TreeMembers {
  /// `ranges`: the neighbouring shards of each member, all `shards` together.
  TreeMembers(std::vector<ShardRange> ranges, int shards);

  std::vector<std::vector<ShardRange>> parts;  ///< the partial sums of each
  std::vector<Addition> sums;                  ///< between all of them, in order
  bool halving = false;                        ///< pairs of neighbours are the tree
};

/// Sends, receives and additions in stages, each of which begins when the one before is complete. Everything
/// is laid out when it is made, so that it can be run again and again.
template <class T>
class TreeExchange {
 public:
  /// `parts`: this member's partial sums; the sum is left in parts[0]. All members make their exchanges with
  /// equal tags, which those under way at the same time do not share. Borrows `comm` and the values.
  TreeExchange(const Comm& comm, const TreeMembers& members, std::vector<std::span<T>> parts, int tag);

  void start();
  /// Does what can be done without waiting. True when the sum is complete.
  bool advance();

 private:
  struct Message {
    std::span<T> values;
    int peer = 0;
  };
  struct Step {
    std::span<T> into;
    std::span<const T> from;
    bool copy = false;  // else added
  };
  struct Stage {
    std::vector<Message> sends;
    std::vector<Message> receives;
    std::vector<Step> steps;  // when all has been received
  };

  void lay_out_halving(std::span<T> values);
  void lay_out_direct(const TreeMembers& members, std::span<const std::span<T>> parts);
  void begin_stage();

  const Comm& comm_;
  int tag_;
  std::vector<T> received_;
  std::vector<Stage> stages_;
  std::size_t stage_ = 0;
  std::vector<MPI_Request> requests_;
};

}  // namespace impart::comm

// Exchange: one sum over the members of a Comm, beside which others can compute.
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

/// A sum of values that stay where they are, so that it can be made again and again.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void start() = 0;
  /// Does what can be done without waiting. True when the sum is complete.
  virtual bool advance() = 0;
};

/// In whatever order MPI sums.
class MpiExchange final : public Exchange {
 public:
  /// Borrows `comm` and the values. All members make theirs in the same order.
  MpiExchange(const Comm& comm, std::span<float> values) : comm_(comm), values_(values) {}

  void start() override;
  bool advance() override;

 private:
  const Comm& comm_;
  std::span<float> values_;
  MPI_Request request_ = MPI_REQUEST_NULL;
};

/// In the shards' fixed tree: sends, receives and additions in stages, each of which begins when the one
/// before is complete.
template <class T>
class TreeExchange final : public Exchange {
 public:
  /// `parts`: this member's partial sums; the sum is left in parts[0]. All members make their exchanges with
  /// equal tags, which those under way at the same time do not share. Borrows `comm` and the values.
  TreeExchange(const Comm& comm, const TreeMembers& members, std::vector<std::span<T>> parts, int tag);

  void start() override;
  bool advance() override;

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

// Reduction: the sum of gradients over threads, ranks and nodes, part by part while they are still computed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "impart/comm/comm.hpp"
#include "impart/comm/shards.hpp"

namespace impart::comm {

/// Who moves the sums on. The bits are the same.
enum class Overlap : std::uint8_t {
  kAuto,      ///< each of the others in the first rounds, and then the fastest
  kBlocking,  ///< nobody, until all is computed
  kPolling,   ///< those who compute, between layers
  kThread,    ///< a thread beside them, which sleeps when there is nothing to do
};

/// What a deck calls them, in their order.
inline constexpr std::array<std::string_view, 4> kOverlapNames{"auto", "blocking", "polling", "thread"};

struct ReductionOptions {
  int shards = 1;              ///< of all ranks
  int workers = 1;             ///< threads of this rank that compute, each a part of its shards
  std::size_t size = 0;        ///< floats of an array: first the parameters, then the rest
  std::size_t parameters = 0;  ///< become final from their end to their beginning; the rest at last
  std::size_t bucket = 0;      ///< floats that are summed at once; 0: by measured latency and bandwidth
  Overlap overlap = Overlap::kAuto;
  bool reproducible = true;  ///< false: between ranks by MPI_Iallreduce, in whatever order
  int node_ranks = 0;        ///< at most so many ranks share memory; 0: all of a node
};

/// One rank's end of a sum that is made again and again: a round.
///
/// Each worker has arrays for the partial sums of its shards. They lie in memory that the ranks of a node
/// share, so that each worker of a node can sum one slice of all of them, in the order of the shards' fixed
/// tree, without a copy. Between nodes one rank of each sums on (see TreeReducer), and the others of its node
/// read what it has. Ranks whose node has not enough shared memory, or not neighbouring ranks, are nodes of
/// their own.
///
/// A round, called by all ranks: `begin`; then each worker, in its thread, `complete`s its buckets in order,
/// and may `advance` between; then, when all workers have completed all, each worker calls `finish`, and at
/// last one thread `end`. Then `sum` is complete, until the next `begin`.
class Reduction {
 public:
  struct Bucket {
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  /// Collective over `comm`, which is borrowed. Throws as check_rank_count does.
  Reduction(const Comm& comm, const ReductionOptions& options);
  Reduction(const Reduction&) = delete;
  Reduction& operator=(const Reduction&) = delete;
  ~Reduction();  ///< collective

  /// In the order in which they become final: from the last parameters to the first, and then the rest.
  [[nodiscard]] std::span<const Bucket> buckets() const noexcept;
  /// The shards whose partial sums (among how many shards) a worker brings.
  [[nodiscard]] ShardRange range_of(int worker) const noexcept;
  [[nodiscard]] int shards() const noexcept;
  /// Where the worker puts them.
  [[nodiscard]] std::span<const std::span<float>> parts_of(int worker) const noexcept;
  /// Where the sum is: the first part of the first worker.
  [[nodiscard]] std::span<float> sum() const noexcept { return parts_of(0)[0]; }

  void begin();
  /// The first `count` buckets of the worker's parts are final.
  void complete(int worker, std::size_t count);
  /// Does what can be done now, if it is the workers who do it.
  void advance(int worker);
  /// Returns when everything is summed.
  void finish(int worker);
  void end();

  /// How this round is driven.
  [[nodiscard]] Overlap overlap() const noexcept;
  /// How all rounds from now on are; kAuto while that is being found out.
  [[nodiscard]] Overlap settled() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace impart::comm

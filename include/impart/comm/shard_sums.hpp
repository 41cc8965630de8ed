// ShardSums: sums of doubles over shards, threads and ranks, whose bits depend on the shards alone.
#pragma once

#include <functional>
#include <span>

#include "impart/comm/comm.hpp"
#include "impart/comm/shards.hpp"
#include "impart/comm/tree_reducer.hpp"
#include "impart/core/worker_team.hpp"

namespace impart::comm {

/// For what is summed once in a while, and need not be fast: of a solver's data, of a federation's models.
class ShardSums {
 public:
  /// Borrows `comm`. Throws as check_rank_count does.
  ShardSums(const Comm& comm, int shards, int threads);

  /// `sum` becomes the sum, in the fixed tree, of what `compute(shard, part)` has added to `part`, which is
  /// zero at first. `compute` runs in several threads. Collective; throws on all ranks when `compute` throws
  /// on one, with `what` in front.
  void sum(const char* what, std::span<double> sum,
           const std::function<void(int shard, std::span<double> part)>& compute);
  /// Seconds that this rank has waited for others and summed with them.
  [[nodiscard]] double exchange_seconds() const noexcept { return exchange_seconds_; }

 private:
  const Comm& comm_;
  int shards_;
  TreeReducer<double> reducer_;
  WorkerTeam team_;
  std::vector<ShardRange> ranges_;  // of each worker
  double exchange_seconds_ = 0;
};

}  // namespace impart::comm

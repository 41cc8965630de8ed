// Sums over the samples of a dataset whose bits depend on neither the ranks nor the threads.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "impart/comm/shard_sums.hpp"

namespace impart::train {

/// Cuts the samples into as many equal parts as a batch has shards, and sums in the same tree.
class SampleSums {
 public:
  /// Borrows `comm`. Throws as comm::check_rank_count does.
  SampleSums(const comm::Comm& comm, int shards, int threads)
      : sums_(comm, shards, threads), shards_(shards) {}

  /// `sum` becomes what `add(first, last, part)` has added to `part`, in double precision, for all of the
  /// samples from 0 to `samples`. `add` runs in several threads. Collective; throws on all ranks when `add`
  /// throws on one.
  void sum(std::int64_t samples, std::span<double> sum,
           const std::function<void(std::int64_t first, std::int64_t last, std::span<double> part)>& add);

 private:
  comm::ShardSums sums_;
  int shards_;
};

}  // namespace impart::train

#include "train/solvers/sample_sums.hpp"

namespace impart::train {

void SampleSums::sum(
    std::int64_t samples, std::span<double> sum,
    const std::function<void(std::int64_t first, std::int64_t last, std::span<double> part)>& add) {
  sums_.sum("sums over the samples", sum, [&](int shard, std::span<double> part) {
    add(samples * shard / shards_, samples * (shard + 1) / shards_, part);
  });
}

}  // namespace impart::train

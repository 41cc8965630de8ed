#include "impart/comm/shard_sums.hpp"

#include <algorithm>
#include <vector>

#include "impart/core/clock.hpp"

namespace impart::comm {

ShardSums::ShardSums(const Comm& comm, int shards, int threads)
    : comm_(comm),
      shards_(shards),
      reducer_(comm, shards),
      team_(largest_rank_count(shards / comm.size(), threads)) {
  const int workers = team_.size();
  for (int w = 0; w < workers; ++w) {
    ranges_.push_back(shards_of_rank(comm.rank() * workers + w, comm.size() * workers, shards));
  }
}

void ShardSums::sum(const char* what, std::span<double> sum,
                    const std::function<void(int shard, std::span<double> part)>& compute) {
  std::vector<std::vector<std::vector<double>>> stacks(ranges_.size());
  Clock::time_point start;  // when all is computed here, and the others are waited for
  agree(comm_, what, [&] {
    team_.run([&](int worker) {
      const auto w = static_cast<std::size_t>(worker);
      auto& stack = stacks[w];
      stack.resize(static_cast<std::size_t>(stack_depth(ranges_[w], shards_)));
      for (auto& values : stack) values.resize(sum.size());
      const std::vector<std::span<double>> views(stack.begin(), stack.end());
      sum_shards<double>(ranges_[w], shards_, views, [&](int shard, std::span<double> part) {
        std::fill(part.begin(), part.end(), 0.0);
        compute(shard, part);
      });
    });
    start = Clock::now();
  });
  std::vector<std::span<double>> parts;
  for (std::size_t w = 0; w < ranges_.size(); ++w) {
    const auto count = partial_sums(ranges_[w], shards_).size();
    parts.insert(parts.end(), stacks[w].begin(), stacks[w].begin() + static_cast<std::ptrdiff_t>(count));
  }
  const auto left = join_parts<double>(ranges_, shards_, parts);
  reducer_.sum(left);
  std::copy(left[0].begin(), left[0].end(), sum.begin());
  exchange_seconds_ += seconds_since(start);
}

}  // namespace impart::comm

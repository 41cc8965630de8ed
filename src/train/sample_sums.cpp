#include "train/sample_sums.hpp"

#include <algorithm>
#include <vector>

namespace impart::train {

SampleSums::SampleSums(const comm::Comm& comm, int shards, int threads)
    : comm_(comm),
      shards_(shards),
      range_((comm::check_rank_count(comm.size(), shards),
              comm::shards_of_rank(comm.rank(), comm.size(), shards))),
      reducer_(comm),
      team_(comm::largest_rank_count(range_.size(), threads)) {}

void SampleSums::sum(
    std::int64_t samples, std::span<double> sum,
    const std::function<void(std::int64_t first, std::int64_t last, std::span<double> part)>& add) {
  const auto workers = static_cast<std::size_t>(team_.size());
  std::vector<std::vector<double>> totals(workers);
  comm::agree(comm_, "sums over the samples", [&] {
    team_.run([&](int w) {
      const auto mine = comm::shards_of_rank(w, team_.size(), range_.size());
      std::vector<std::vector<double>> storage(static_cast<std::size_t>(comm::tree_depth(mine.size())));
      std::vector<std::span<double>> scratch;
      for (auto& values : storage) {
        values.resize(sum.size());
        scratch.emplace_back(values);
      }
      comm::sum_shards<double>({range_.begin + mine.begin, range_.begin + mine.end}, scratch,
                               [&](int shard, std::span<double> out) {
                                 std::fill(out.begin(), out.end(), 0.0);
                                 add(samples * shard / shards_, samples * (shard + 1) / shards_, out);
                               });
      totals[static_cast<std::size_t>(w)] = std::move(storage.front());
    });
  });
  for (std::size_t distance = 1; distance < workers; distance *= 2) {
    for (std::size_t i = 0; i < workers; i += 2 * distance) {
      for (std::size_t k = 0; k < sum.size(); ++k) totals[i][k] += totals[i + distance][k];
    }
  }
  std::copy(totals[0].begin(), totals[0].end(), sum.begin());
  reducer_.sum_in_place(sum);
}

}  // namespace impart::train

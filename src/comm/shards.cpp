#include "impart/comm/shards.hpp"

#include <string>

#include "impart/core/error.hpp"

namespace impart::comm {

std::vector<int> allowed_rank_counts(int shards) {
  std::vector<int> counts;
  for (int n = 1; n <= shards; ++n) {
    if (shards % n == 0) counts.push_back(n);
  }
  return counts;
}

int largest_rank_count(int shards, int limit) {
  int best = 1;
  for (const int n : allowed_rank_counts(shards)) {
    if (n <= limit) best = n;
  }
  return best;
}

void check_rank_count(int ranks, int shards) {
  std::string allowed;
  for (const int n : allowed_rank_counts(shards)) {
    if (n == ranks) return;
    allowed += (allowed.empty() ? "" : ", ") + std::to_string(n);
  }
  throw Error("this number of ranks cannot share the batch", ErrorKind::kUsage)
      .at("ranks")
      .expected("a number that divides " + std::to_string(shards) + " shards: " + allowed)
      .got(std::to_string(ranks))
      .hint("change `mpirun -n`, or `shards` in [run]");
}

ShardRange shards_of_rank(int rank, int ranks, int shards) {
  const int each = shards / ranks;
  return {rank * each, (rank + 1) * each};
}

}  // namespace impart::comm

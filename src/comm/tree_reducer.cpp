#include "impart/comm/tree_reducer.hpp"

#include <bit>
#include <string>

#include "impart/core/error.hpp"

namespace impart::comm {

namespace {

template <class T>
void add(std::span<T> into, std::span<const T> values) {
  for (std::size_t i = 0; i < into.size(); ++i) into[i] += values[i];
}

}  // namespace

std::vector<int> allowed_rank_counts(int shards) {
  std::vector<int> counts;
  for (int n = 1; n <= shards && shards % n == 0; n *= 2) counts.push_back(n);
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
      .expected("a power of two that divides " + std::to_string(shards) + " shards: " + allowed)
      .got(std::to_string(ranks))
      .hint("change `mpirun -n`, or `shards` in [run]");
}

ShardRange shards_of_rank(int rank, int ranks, int shards) {
  const int each = shards / ranks;
  return {rank * each, (rank + 1) * each};
}

int tree_depth(int count) { return count <= 1 ? 1 : (count % 2 == 0 ? 1 + tree_depth(count / 2) : 2); }

template <class T>
void sum_shards(ShardRange range, std::type_identity_t<std::span<const std::span<T>>> scratch,
                const std::type_identity_t<std::function<void(int shard, std::span<T> out)>>& compute) {
  const int count = range.size();
  if (count > 1 && count % 2 == 0) {
    const int middle = range.begin + count / 2;
    sum_shards<T>({range.begin, middle}, scratch, compute);
    sum_shards<T>({middle, range.end}, scratch.subspan(1), compute);
    add<T>(scratch[0], scratch[1]);
    return;
  }
  compute(range.begin, scratch[0]);
  for (int shard = range.begin + 1; shard < range.end; ++shard) {
    compute(shard, scratch[1]);
    add<T>(scratch[0], scratch[1]);
  }
}

template <class T>
TreeReducer<T>::TreeReducer(const Comm& comm) : comm_(comm) {
  if (!std::has_single_bit(static_cast<unsigned>(comm.size()))) {
    throw Error("the reduction tree needs a power of two of ranks").got(std::to_string(comm.size()));
  }
}

template <class T>
void TreeReducer<T>::sum_in_place(std::span<T> values) {
  const int rank = comm_.rank();
  const int ranks = comm_.size();
  if (ranks == 1) return;
  if (scratch_.size() < values.size()) scratch_.resize(values.size());

  // Halving: at each distance the lower partner keeps the lower half of what both hold, the upper the upper.
  std::vector<std::span<T>> held{values};
  for (int distance = 1; distance < ranks; distance *= 2) {
    const auto mine = held.back();
    const auto half = mine.size() / 2;
    const bool lower = (rank & distance) == 0;
    const auto keep = lower ? mine.first(half) : mine.subspan(half);
    const auto give = lower ? mine.subspan(half) : mine.first(half);
    const std::span<T> received(scratch_.data(), keep.size());
    comm_.exchange<T>(give, received, rank ^ distance);
    add<T>(keep, received);
    held.push_back(keep);
  }
  // Doubling: back up the same way, swapping finished parts.
  for (int distance = ranks / 2; distance >= 1; distance /= 2) {
    const auto mine = held.back();
    held.pop_back();
    const auto both = held.back();
    const bool lower = (rank & distance) == 0;
    const auto theirs = lower ? both.subspan(mine.size()) : both.first(both.size() - mine.size());
    comm_.exchange<T>(mine, theirs, rank ^ distance);
  }
}

template void sum_shards<float>(ShardRange, std::span<const std::span<float>>,
                                const std::function<void(int, std::span<float>)>&);
template void sum_shards<double>(ShardRange, std::span<const std::span<double>>,
                                 const std::function<void(int, std::span<double>)>&);
template class TreeReducer<float>;
template class TreeReducer<double>;

}  // namespace impart::comm

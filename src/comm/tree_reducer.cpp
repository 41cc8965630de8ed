#include "impart/comm/tree_reducer.hpp"

#include <utility>
#include <vector>

#include "comm/node_sum.hpp"
#include "comm/tree_exchange.hpp"
#include "impart/comm/watch.hpp"

namespace impart::comm {

namespace {

// From here on MPI, which reads the other rank's memory without a copy of it, is faster than NodeSum.
constexpr std::size_t kPairBytes = std::size_t{128} << 10;

std::vector<ShardRange> ranges_of(int ranks, int shards) {
  check_rank_count(ranks, shards);
  std::vector<ShardRange> ranges;
  for (int rank = 0; rank < ranks; ++rank) ranges.push_back(shards_of_rank(rank, ranks, shards));
  return ranges;
}

}  // namespace

template <class T>
struct TreeReducer<T>::Impl {
  const Comm& comm;
  TreeMembers members;
  bool share_memory;
  bool tried = false;  // to share memory
  std::unique_ptr<NodeSum<T>> node = nullptr;
};

template <class T>
TreeReducer<T>::TreeReducer(const Comm& comm, int shards, bool share_memory)
    : impl_(std::make_unique<Impl>(
          Impl{comm, TreeMembers(ranges_of(comm.size(), shards), shards), share_memory})) {}

template <class T>
TreeReducer<T>::TreeReducer(TreeReducer&&) noexcept = default;
template <class T>
TreeReducer<T>& TreeReducer<T>::operator=(TreeReducer&&) noexcept = default;
template <class T>
TreeReducer<T>::~TreeReducer() = default;

template <class T>
void TreeReducer<T>::sum(std::span<const std::span<T>> parts, const char* what) {
  auto& all = *impl_;
  if (all.comm.size() == 1) return;
  if (all.share_memory && !std::exchange(all.tried, true)) all.node = NodeSum<T>::make(all.comm, all.members);
  if (all.node && all.members.halving && all.comm.size() == 2 && parts[0].size_bytes() >= kPairBytes) {
    return all.comm.sum_in_place(parts[0], what);  // which have one order only
  }
  const Waiting waiting(all.comm, what);
  if (all.node) return all.node->sum(parts);
  TreeExchange<T> exchange(all.comm, all.members, {parts.begin(), parts.end()}, 0);
  exchange.start();
  while (!exchange.advance()) {
  }
}

template class TreeReducer<float>;
template class TreeReducer<double>;

}  // namespace impart::comm

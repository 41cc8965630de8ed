#include "impart/comm/tree_reducer.hpp"

#include <utility>
#include <vector>

#include "comm/tree_exchange.hpp"
#include "impart/comm/watch.hpp"

namespace impart::comm {

namespace {

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
};

template <class T>
TreeReducer<T>::TreeReducer(const Comm& comm, int shards)
    : impl_(std::make_unique<Impl>(Impl{comm, TreeMembers(ranges_of(comm.size(), shards), shards)})) {}

template <class T>
TreeReducer<T>::TreeReducer(TreeReducer&&) noexcept = default;
template <class T>
TreeReducer<T>& TreeReducer<T>::operator=(TreeReducer&&) noexcept = default;
template <class T>
TreeReducer<T>::~TreeReducer() = default;

template <class T>
void TreeReducer<T>::sum(std::span<const std::span<T>> parts) {
  if (impl_->comm.size() == 1) return;
  TreeExchange<T> exchange(impl_->comm, impl_->members, {parts.begin(), parts.end()}, 0);
  const Waiting waiting(impl_->comm, "sum in the fixed tree");
  exchange.start();
  while (!exchange.advance()) {
  }
}

template class TreeReducer<float>;
template class TreeReducer<double>;

}  // namespace impart::comm

#include "comm/node_sum.hpp"

#include <algorithm>
#include <new>

#include "comm/patience.hpp"

namespace impart::comm {

namespace {

constexpr std::size_t kChunkBytes = std::size_t{64}
                                    << 10;  // of a part; two places of two ranks stay in the cache
constexpr std::size_t kBlock = 1024;        // values added at once, in the first-level cache

using Count = std::atomic<std::uint64_t>;

std::size_t bytes_of(std::size_t parts) { return kAlignment + 2 * parts * kChunkBytes; }

}  // namespace

template <class T>
std::unique_ptr<NodeSum<T>> NodeSum<T>::make(const Comm& comm, const TreeMembers& members) {
  const auto node = comm.split_by_node();
  std::int32_t fits = node.size() == comm.size() ? 1 : 0;
  const auto parts = members.parts[static_cast<std::size_t>(comm.rank())].size();
  if (!node_has_room(node, bytes_of(parts))) fits = 0;
  comm.min_in_place(std::span(&fits, 1), "shared memory");
  return fits != 0 ? std::make_unique<NodeSum>(node, members) : nullptr;
}

template <class T>
NodeSum<T>::NodeSum(const Comm& node, const TreeMembers& members)
    : members_(members),
      rank_(static_cast<std::size_t>(node.rank())),
      memory_(node, bytes_of(members.parts[rank_].size())),
      spins_(spins_for(members.parts.size())) {
  for (std::size_t rank = 0; rank < members.parts.size(); ++rank) {
    if (rank == rank_) first_part_ = parts_.size();
    auto* bytes = memory_.of(static_cast<int>(rank)).data();
    puts_.push_back(reinterpret_cast<Count*>(bytes));
    auto* values = reinterpret_cast<T*>(bytes + kAlignment);
    constexpr std::size_t kChunk = kChunkBytes / sizeof(T);
    for (std::size_t part = 0; part < members.parts[rank].size(); ++part, values += 2 * kChunk) {
      parts_.push_back({{values, values + kChunk}});
    }
  }
  new (puts_[rank_]) Count(0);
  node.barrier();
  block_.resize(parts_.size() * kBlock);
}

template <class T>
void NodeSum<T>::wait_for_all() const {
  Patience patience(spins_);
  for (const auto* put : puts_) {
    while (put->load(std::memory_order_acquire) < chunks_) patience.wait();
  }
}

template <class T>
void NodeSum<T>::add_up(std::size_t place, std::span<T> out) {
  if (parts_.size() == 2) {
    const T* left = parts_[0].places[place];
    const T* right = parts_[1].places[place];
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = left[i] + right[i];
    return;
  }
  for (std::size_t begin = 0; begin < out.size(); begin += kBlock) {
    const auto size = std::min(kBlock, out.size() - begin);
    for (std::size_t part = 0; part < parts_.size(); ++part) {
      std::copy_n(parts_[part].places[place] + begin, size, block_.data() + part * kBlock);
    }
    for (const auto [into, from] : members_.sums) {
      T* to = block_.data() + into * kBlock;
      const T* values = block_.data() + from * kBlock;
      for (std::size_t i = 0; i < size; ++i) to[i] += values[i];
    }
    std::copy_n(block_.data(), size, out.data() + begin);
  }
}

template <class T>
void NodeSum<T>::sum(std::span<const std::span<T>> parts) {
  const auto total = parts[0].size();
  constexpr std::size_t kChunk = kChunkBytes / sizeof(T);
  for (std::size_t begin = 0; begin < total; begin += kChunk) {
    const auto size = std::min(kChunk, total - begin);
    const std::size_t place = chunks_ % 2;
    for (std::size_t part = 0; part < parts.size(); ++part) {
      std::copy_n(parts[part].data() + begin, size, parts_[first_part_ + part].places[place]);
    }
    puts_[rank_]->store(++chunks_, std::memory_order_release);
    wait_for_all();
    add_up(place, parts[0].subspan(begin, size));
  }
}

template class NodeSum<float>;
template class NodeSum<double>;

}  // namespace impart::comm

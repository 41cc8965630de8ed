#include "impart/comm/node_memory.hpp"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <limits>
#include <string>

#include "impart/core/error.hpp"

namespace impart::comm {

namespace {

const char* const kDirectory = "/dev/shm";  // where shared windows lie; a container's is often small

std::uintmax_t free_bytes() {
  std::error_code failure;
  const auto space = std::filesystem::space(kDirectory, failure);
  return failure ? std::numeric_limits<std::uintmax_t>::max() : space.available;
}

}  // namespace

bool node_has_room(const Comm& node, std::size_t bytes) {
  if (node.size() == 1) return true;
  auto total = static_cast<std::uint64_t>(bytes);
  node.sum_in_place(std::span(&total, 1), "shared memory");
  std::int32_t fits = free_bytes() >= total ? 1 : 0;
  node.min_in_place(std::span(&fits, 1), "shared memory");
  return fits != 0;
}

void check_node_room(const Comm& comm, const Comm& node, std::size_t bytes) {
  const bool room = node_has_room(node, bytes);
  agree(comm, "memory for the ranks of a node", [&] {
    if (room) return;
    throw Error("not enough shared memory")
        .at(kDirectory)
        .expected(std::to_string(bytes) + " bytes for this rank")
        .got(std::to_string(free_bytes()) + " for all ranks of the node")
        .hint("give the container more (--shm-size), or run one rank on each node");
  });
}

NodeMemory::NodeMemory(const Comm& node, std::size_t bytes) {
  if (node.size() == 1) {
    own_ = AlignedBuffer<std::byte>(bytes);
    parts_.push_back(own_.span());
    return;
  }
  MPI_Info info = MPI_INFO_NULL;
  MPI_Info_create(&info);
  MPI_Info_set(info, "alloc_shared_noncontig", "true");
  void* base = nullptr;
  const std::size_t padded = bytes + kAlignment;
  MPI_Win_allocate_shared(static_cast<MPI_Aint>(padded), 1, info, node.mpi(), static_cast<void*>(&base),
                          &window_);
  MPI_Info_free(&info);
  for (int rank = 0; rank < node.size(); ++rank) {
    MPI_Aint length = 0;
    int unit = 0;
    MPI_Win_shared_query(window_, rank, &length, &unit, static_cast<void*>(&base));
    const auto gap = (kAlignment - reinterpret_cast<std::uintptr_t>(base) % kAlignment) % kAlignment;
    parts_.emplace_back(static_cast<std::byte*>(base) + gap, static_cast<std::size_t>(length) - kAlignment);
  }
  const auto mine = of(node.rank());
  std::fill(mine.begin(), mine.end(), std::byte{0});
  node.barrier();
}

NodeMemory::~NodeMemory() {
  if (window_ != MPI_WIN_NULL && std::uncaught_exceptions() == 0) MPI_Win_free(&window_);
}

NodeBuffer::NodeBuffer(const Comm& comm, std::size_t size) : node_(comm.split_by_node()) {
  const auto mine = is_writer() ? size : 0;
  check_node_room(comm, node_, mine);
  agree(comm, "memory for the ranks of a node", [&] {
    if (node_.size() == 1) memory_.emplace(node_, mine);
  });
  if (!memory_) memory_.emplace(node_, mine);
  bytes_ = memory_->of(0).first(size);
}

}  // namespace impart::comm

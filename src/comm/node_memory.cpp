#include "comm/node_memory.hpp"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <filesystem>

namespace impart::comm {

bool node_has_room(const Comm& node, std::size_t bytes) {
  auto total = static_cast<std::uint64_t>(bytes);
  node.sum_in_place(std::span(&total, 1), "shared memory");
  std::error_code failure;
  const auto space = std::filesystem::space("/dev/shm", failure);
  std::int32_t fits = failure || space.available >= total ? 1 : 0;
  node.min_in_place(std::span(&fits, 1), "shared memory");
  return fits != 0;
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

}  // namespace impart::comm

// How much memory a dataset and its loader take: the dataset once a node, two batches a rank.

#include <gtest/gtest.h>

#include <fstream>

#include "impart/data/batch_loader.hpp"
#include "impart/data/dataset.hpp"

namespace impart::data {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

/// This process's memory in bytes; a page that several processes share counts in equal parts. Pages of files,
/// as of libraries, are left out: their parts change with every process that starts or ends on the machine.
std::int64_t proportional_memory() {
  std::ifstream file("/proc/self/smaps_rollup");
  std::int64_t kilobytes = 0;
  int found = 0;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("Pss_Anon:") && !line.starts_with("Pss_Shmem:")) continue;
    kilobytes += std::stoll(line.substr(line.find(':') + 1));
    ++found;
  }
  return found == 2 ? kilobytes * 1024 : -1;
}

/// Memory of all ranks together, while none of them allocates.
std::int64_t memory_of_all(const comm::Comm& comm) {
  comm.barrier();
  auto bytes = proportional_memory();
  comm.sum_in_place(std::span(&bytes, 1), "memory");
  return bytes;
}

/// 64 MiB of bytes that are made while they are read.
class LargeSource final : public io::SampleSource {
 public:
  [[nodiscard]] const io::SampleInfo& info() const override { return info_; }
  void read(std::span<std::byte> samples, std::span<std::int32_t> labels) override {
    for (std::size_t i = 0; i < samples.size(); ++i)
      samples[i] = static_cast<std::byte>(i * 2654435761U >> 24);
    std::fill(labels.begin(), labels.end(), 0);
  }

 private:
  io::SampleInfo info_{16384, Shape{4096}, io::ElementType::kUint8};
};

TEST(Memory, ADatasetOnceANodeAndTwoBatchesARank) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's own memory hides what is measured";
#endif
  if (proportional_memory() < 0)
    GTEST_SKIP() << "this kernel does not tell a process its parts of shared memory";
  const auto world = comm::Comm::world();
  const auto before = memory_of_all(world);
  LargeSource source;
  const auto dataset = read_dataset(world, source, "large", 1);
  std::vector<float> sample(4096);
  float sum = 0;
  for (std::int64_t i = 0; i < dataset->size(); ++i) {
    dataset->get(i, sample);
    sum += sample[17];
  }
  EXPECT_GT(sum, 0);
  const auto loaded = memory_of_all(world);
  EXPECT_GE(loaded - before, 64 * kMiB);
  EXPECT_LE(loaded - before, 64 * kMiB + (2 + 2 * world.size()) * kMiB);

  // A global batch of 2,048 samples is 32 MiB as floats.
  const auto range = comm::shards_of_rank(world.rank(), world.size(), 4);
  BatchLoader loader(dataset, {2048, 4, range, 1});
  for (int step = 0; step < 4; ++step) loader.next();
  const auto loading = memory_of_all(world);
  EXPECT_GE(loading - loaded, 60 * kMiB);
  EXPECT_LE(loading - loaded, 64 * kMiB + 2 * world.size() * kMiB);
}

}  // namespace
}  // namespace impart::data

// The reproducible reduction against MPI_Allreduce, from 1 KiB to 64 MiB. Prints one JSON object.
//
//   mpirun -n 2 bench_reduce [rounds]
//
// A round measures both, one after the other, who is first changing with each round; the figure to look at is
// the median of the rounds' ratios. Times are those of the slowest rank. The reduction sums arrays where gradients
// are written (see comm/reduction.hpp), MPI_Allreduce in place.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/comm/reduction.hpp"
#include "impart/comm/tree_reducer.hpp"

namespace {

using namespace impart;

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// Seconds of one call on the slowest rank, of `calls` that follow one another.
double seconds_of(const comm::Comm& world, int calls, const std::function<void()>& call) {
  world.barrier();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) call();
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / calls;
  world.max_in_place(std::span(&seconds, 1), "bench");
  return seconds;
}

std::string measure(const comm::Comm& world, std::size_t bytes, int rounds) {
  const std::size_t size = bytes / sizeof(float);
  comm::Reduction reduction(
      world, {.shards = world.size(), .size = size, .parameters = size, .overlap = comm::Overlap::kBlocking});
  std::vector<float> values(size, 0.0F);
  const auto ours = [&] {
    reduction.begin();
    reduction.complete(0, reduction.buckets().size());
    reduction.finish(0);
    reduction.end();
  };
  const auto mpi = [&] {
    MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(size), MPI_FLOAT, MPI_SUM, world.mpi());
  };
  const int calls = static_cast<int>(std::clamp<std::size_t>((std::size_t{32} << 20) / bytes, 1, 2000));
  std::vector<double> our_seconds;
  std::vector<double> mpi_seconds;
  std::vector<double> ratios;
  for (int round = -1; round < rounds; ++round) {  // one to warm up
    double both[2];
    for (int turn = 0; turn < 2; ++turn) {
      const bool is_ours = (turn + round) % 2 == 0;
      both[is_ours ? 0 : 1] =
          seconds_of(world, calls, is_ours ? std::function<void()>(ours) : std::function<void()>(mpi));
    }
    if (round < 0) continue;
    our_seconds.push_back(both[0]);
    mpi_seconds.push_back(both[1]);
    ratios.push_back(both[1] / both[0]);
  }
  return fmt::format(R"({{"bytes": {}, "reduction_us": {:.2f}, "allreduce_us": {:.2f}, "ratio": {:.2f}}})",
                     bytes, 1e6 * median(our_seconds), 1e6 * median(mpi_seconds), median(ratios));
}

}  // namespace

int main(int argc, char** argv) {
  comm::MpiSession session(&argc, &argv);
  const auto world = comm::Comm::world();
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 9;
  std::string sizes;
  for (std::size_t bytes = 1024; bytes <= std::size_t{64} << 20; bytes *= 4) {
    sizes += (sizes.empty() ? "" : ",\n            ") + measure(world, bytes, rounds);
  }
  if (world.is_root())
    fmt::print("{{\"ranks\": {}, \"rounds\": {},\n  \"sizes\": [{}]}}\n", world.size(), rounds, sizes);
  return 0;
}

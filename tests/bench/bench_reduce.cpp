// The reproducible reduction against MPI_Allreduce, from 1 KiB to 64 MiB. Prints one JSON object.
//
//   mpirun -n 2 bench_reduce [rounds]
//
// A round measures all, one after another, who is first changing with each round; the figures to look at are
// the medians of the rounds' ratios. Times are those of the slowest rank. "reduction" sums arrays where
// gradients are written (comm/reduction.hpp), "tree_reducer" values that lie anywhere, as MPI_Allreduce does.

#include <fmt/format.h>

#include <algorithm>
#include <array>
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

/// Seconds of one of `calls` calls on the slowest rank. Before each, a rank writes what it brings, as a
/// backward pass does, and waits for the others.
double seconds_of(const comm::Comm& world, int calls, std::span<float> values,
                  const std::function<void()>& call) {
  double seconds = 0;
  for (int i = 0; i < calls; ++i) {
    std::ranges::fill(values, 1.0F);
    world.barrier();
    const auto start = std::chrono::steady_clock::now();
    call();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  world.max_in_place(std::span(&seconds, 1), "bench");
  return seconds / calls;
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
  comm::TreeReducer<float> reducer(world);
  const auto tree = [&] { reducer.sum_in_place(values); };
  const auto mpi = [&] {
    MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(size), MPI_FLOAT, MPI_SUM, world.mpi());
  };
  const int calls = static_cast<int>(std::clamp<std::size_t>((std::size_t{32} << 20) / bytes, 1, 2000));
  const std::array<std::function<void()>, 3> contestants{ours, tree, mpi};
  std::array<std::vector<double>, 3> seconds;
  for (int round = -1; round < rounds; ++round) {  // one to warm up
    for (std::size_t turn = 0; turn < contestants.size(); ++turn) {
      const auto who = (turn + static_cast<std::size_t>(round + 1)) % contestants.size();
      const double took =
          seconds_of(world, calls, who == 0 ? reduction.sum() : std::span<float>(values), contestants[who]);
      if (round >= 0) seconds[who].push_back(took);
    }
  }
  const auto ratio = [&](std::size_t who) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < seconds[who].size(); ++i) ratios.push_back(seconds[2][i] / seconds[who][i]);
    return median(ratios);
  };
  return fmt::format(
      R"({{"bytes": {}, "reduction_us": {:.2f}, "tree_reducer_us": {:.2f}, "allreduce_us": {:.2f}, )"
      R"("reduction_ratio": {:.2f}, "tree_reducer_ratio": {:.2f}}})",
      bytes, 1e6 * median(seconds[0]), 1e6 * median(seconds[1]), 1e6 * median(seconds[2]), ratio(0),
      ratio(1));
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

// Speed of the products that convolutions and dense layers are made of.
#include <benchmark/benchmark.h>

#include "nn/kernels/kernels.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

std::size_t size_of(std::int64_t n) { return static_cast<std::size_t>(n); }

void count_flops(benchmark::State& state, double flops) {
  state.counters["flops"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

// rows, columns, depth, distance of the rows of a.
void product(benchmark::State& state) {
  const std::int64_t rows = state.range(0);
  const std::int64_t columns = state.range(1);
  const std::int64_t depth = state.range(2);
  const std::int64_t stride = state.range(3);
  const auto a = normal_values(size_of(rows * stride), 1);
  const auto b = normal_values(size_of((columns + 31) / 32 * 32 * depth), 2);
  Values aligned(b.begin(), b.end());
  Values c(size_of(rows * columns));
  const Product g{.rows = rows,
                  .columns = columns,
                  .depth = depth,
                  .a = a.data(),
                  .a_stride = stride,
                  .b = aligned.data(),
                  .c = c.data(),
                  .c_stride = columns};
  for (auto _ : state) {
    kernels().product(g);
    benchmark::ClobberMemory();
  }
  count_flops(state, 2.0 * static_cast<double>(rows * columns * depth));
}
BENCHMARK(product)
    ->Args({14, 32, 256, 256})
    ->Args({14, 32, 2048, 2064})
    ->Args({128, 512, 288, 784})
    ->Args({126, 512, 288, 784})
    ->Args({14, 32, 256, 272})
    ->Args({14, 512, 256, 272})
    ->Args({14, 512, 288, 304})
    ->Args({196, 512, 256, 512})
    ->Args({196, 512, 256, 2048})
    ->Args({14, 512, 64, 64})
    ->Args({14, 16, 256, 272})
    ->Args({8, 512, 256, 272});

// rows, columns, depth of a shard, shards.
void outer_product(benchmark::State& state) {
  const std::int64_t rows = state.range(0);
  const std::int64_t columns = state.range(1);
  const std::int64_t depth = state.range(2);
  const std::int64_t shards = state.range(3);
  const auto a = normal_values(size_of(shards * depth * (rows + 13) / 14 * 14), 1);
  const auto b = normal_values(size_of(shards * depth * columns), 2);
  std::vector<const float*> b_rows;
  for (std::int64_t d = 0; d < shards * depth; ++d) b_rows.push_back(b.data() + d * columns);
  Values memory(size_of(shards * depth * 32));
  Values c(size_of(rows * columns));
  const OuterProduct g{.rows = rows,
                       .columns = columns,
                       .depth = depth,
                       .shards = shards,
                       .a = a.data(),
                       .b = b_rows.data(),
                       .b_memory = memory.data(),
                       .c = c.data(),
                       .c_stride = columns};
  for (auto _ : state) {
    kernels().outer_product(g);
    benchmark::ClobberMemory();
  }
  count_flops(state, 2.0 * static_cast<double>(rows * columns * depth * shards));
}
BENCHMARK(outer_product)
    ->Args({14, 32, 256, 1})
    ->Args({14, 512, 256, 1})
    ->Args({14, 512, 64, 8})
    ->Args({14, 1200, 16, 8})
    ->Args({140, 1200, 16, 8});

void transpose(benchmark::State& state) {
  const std::int64_t rows = state.range(0);
  const std::int64_t columns = state.range(1);
  const auto from = normal_values(size_of(rows * columns), 1);
  Values to(size_of(rows * columns));
  std::vector<std::int64_t> to_row;
  for (std::int64_t j = 0; j < columns; ++j) to_row.push_back(j * rows);
  for (auto _ : state) {
    kernels().transpose({.rows = rows,
                         .columns = columns,
                         .from = from.data(),
                         .stride = columns,
                         .to = to.data(),
                         .to_row = to_row.data()});
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * rows * columns);
}
BENCHMARK(transpose)->Args({32, 288})->Args({32, 9})->Args({9, 512});

}  // namespace
}  // namespace impart::nn::testing

BENCHMARK_MAIN();

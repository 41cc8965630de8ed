// The optimizers' update on as many parameters as ResNet-18 has, beside a copy of the same memory: an update
// should take no longer than its bytes need.
#include <benchmark/benchmark.h>

#include <cstring>

#include "impart/train/optimizer.hpp"
#include "impart/train/transform.hpp"

namespace impart::train {
namespace {

constexpr std::int64_t kParameters = 11'173'962;

void fill(std::span<float> values) {
  float v = 0.01F;
  for (float& value : values) value = v = 1.01F * v > 1 ? 0.01F : 1.01F * v;
}

void report(benchmark::State& state, int passes) {
  state.SetBytesProcessed(state.iterations() * passes * kParameters *
                          static_cast<std::int64_t>(sizeof(float)));
}

void copy(benchmark::State& state) {
  std::vector<float> from(kParameters, 1.0F);
  std::vector<float> to(kParameters);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size() * sizeof(float));
    benchmark::ClobberMemory();
  }
  report(state, 2);
}

void update(benchmark::State& state, const SettingTable& settings, int passes,
            std::vector<GradientTransformPtr> transforms = {}) {
  const auto layout =
      std::make_shared<StateLayout>(std::vector<StateEntry>{{"conv.weight", Shape{kParameters / 2, 2}}});
  StateDict weights(layout);
  StateDict gradients(layout);
  fill(weights.arena());
  fill(gradients.arena());
  Optimizer optimizer(make_optimizer(settings), layout, {});
  std::int64_t step = 0;
  TransformChain chain(std::move(transforms), layout);
  for (auto _ : state) {
    chain.apply(weights, gradients, step, optimizer.parameters());
    optimizer.update(weights, gradients, 1e-3, step++);
  }
  report(state, passes);
}

BENCHMARK(copy)->Unit(benchmark::kMillisecond);
// The last number: how often a rule reads or writes as many values as there are parameters.
BENCHMARK_CAPTURE(update, sgd, SettingTable{}, 3)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(update, sgd_momentum, (SettingTable{{"momentum", 0.9}, {"weight_decay", 5e-4}}), 5)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(update, rmsprop, (SettingTable{{"kind", "rmsprop"}}), 5)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(update, adam, (SettingTable{{"kind", "adam"}}), 7)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(update, lars, (SettingTable{{"kind", "lars"}}), 7)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(update, lamb, (SettingTable{{"kind", "lamb"}}), 11)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(update, sgd_clipped, (SettingTable{{"momentum", 0.9}}), 8, (std::vector{make_clip_norm(1)}))
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace impart::train

BENCHMARK_MAIN();

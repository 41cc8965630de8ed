// Times of the example deck's convolutional network and of its layers, at the size of one shard, in one
// thread.
#include <benchmark/benchmark.h>

#include <vector>

#include "impart/nn/objective.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

constexpr std::int64_t kShard = 16;
constexpr int kShards = 8;

std::vector<std::int32_t> some_labels() {
  std::vector<std::int32_t> labels(kShard);
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::int32_t>(i % 10);
  return labels;
}

// Forward, loss and backward of one shard.
void shard(benchmark::State& state) {
  const auto spec = digits_cnn();
  Network network(spec, kShard, {.training = true});
  const auto values = initial_state(spec, 1);
  StateDict gradients(values.layout_ptr());
  network.load(values);
  const auto input = normal_values(kShard * 28 * 28, 3);
  const auto labels = some_labels();
  const auto objective = make_cross_entropy();
  std::vector<float> grad(kShard * 10);
  for (auto _ : state) {
    const auto output = network.forward({.training = true}, input);
    benchmark::DoNotOptimize(objective->evaluate(output, {.labels = labels}, 10, 1.0F / 128, grad));
    network.backward({.training = true}, grad, gradients);
  }
  state.SetItemsProcessed(state.iterations() * kShard);
}
BENCHMARK(shard)->Unit(benchmark::kMicrosecond);

// A whole step of SGD with momentum: eight shards, their gradients summed, the update, the new values packed.
void step(benchmark::State& state) {
  const auto spec = digits_cnn();
  Network network(spec, kShard, {.training = true});
  auto values = initial_state(spec, 1);
  StateDict sum(values.layout_ptr());
  StateDict gradients(values.layout_ptr());
  StateDict momentum(values.layout_ptr());
  const auto input = normal_values(kShard * 28 * 28, 3);
  const auto labels = some_labels();
  const auto objective = make_cross_entropy();
  std::vector<float> grad(kShard * 10);
  for (auto _ : state) {
    network.load(values);
    for (int i = 0; i < kShards; ++i) {
      const auto output = network.forward({.training = true}, input);
      benchmark::DoNotOptimize(
          objective->evaluate(output, {.labels = labels}, 10, 1.0F / (kShard * kShards), grad));
      network.backward({.training = true}, grad, i == 0 ? sum : gradients);
      for (std::size_t k = 0; k < sum.arena().size() && i > 0; ++k) sum.arena()[k] += gradients.arena()[k];
    }
    for (std::size_t k = 0; k < sum.arena().size(); ++k) {
      momentum.arena()[k] = 0.9F * momentum.arena()[k] + sum.arena()[k];
      values.arena()[k] -= 0.001F * momentum.arena()[k];
    }
  }
  state.SetItemsProcessed(state.iterations() * kShard * kShards);
}
BENCHMARK(step)->Unit(benchmark::kMicrosecond);

// What it costs to build a network, after the first one of its kind.
void construct(benchmark::State& state) {
  const auto spec = digits_cnn();
  for (auto _ : state) benchmark::DoNotOptimize(Network(spec, kShard, {.training = true}));
}
BENCHMARK(construct)->Unit(benchmark::kMicrosecond);

// A network's first layer needs no gradient of its input.
bool is_first(const Shape& sample) { return sample == Shape{1, 28, 28}; }

void layer_forward(benchmark::State& state, const LayerSpec& spec, const Shape& sample,
                   const std::vector<LayerSpec>& absorbed) {
  use_one_kernel_thread();
  LoneLayer lone(spec, sample, kShard, {.absorbed = absorbed, .need_input_gradient = !is_first(sample)});
  const auto input = normal_values(lone.input().size(), 4);
  lone.input().assign(input.begin(), input.end());
  lone.forward();
  for (auto _ : state) lone.layer->forward(lone.pass, lone.input_views, lone.output);
  state.SetItemsProcessed(state.iterations() * kShard);
}

void layer_backward(benchmark::State& state, const LayerSpec& spec, const Shape& sample,
                    const std::vector<LayerSpec>& absorbed) {
  use_one_kernel_thread();
  LoneLayer lone(spec, sample, kShard, {.absorbed = absorbed, .need_input_gradient = !is_first(sample)});
  const auto input = normal_values(lone.input().size(), 4);
  lone.input().assign(input.begin(), input.end());
  lone.forward();
  const auto probe = normal_values(lone.output.size(), 5);
  Values grad(probe.begin(), probe.end());
  std::vector<std::span<float>> gradients(lone.gradients.begin(), lone.gradients.end());
  const InputGradient grad_input{lone.grad_input(), false};
  for (auto _ : state) {
    lone.layer->backward(lone.pass, {lone.input_views, lone.output, grad, {&grad_input, 1}, gradients});
  }
  state.SetItemsProcessed(state.iterations() * kShard);
}

const std::vector<LayerSpec> kReluPool{layer("relu"), pool("max_pool2d", 2, 2)};
const std::vector<LayerSpec> kRelu{layer("relu")};

BENCHMARK_CAPTURE(layer_forward, conv1_relu_pool, conv2d(32, 3), Shape{1, 28, 28}, kReluPool);
BENCHMARK_CAPTURE(layer_forward, conv2_relu_pool, conv2d(64, 3), Shape{32, 13, 13}, kReluPool);
BENCHMARK_CAPTURE(layer_forward, conv3_relu, conv2d(64, 3), Shape{64, 5, 5}, kRelu);
BENCHMARK_CAPTURE(layer_forward, flatten, layer("flatten"), Shape{64, 3, 3}, std::vector<LayerSpec>{});
BENCHMARK_CAPTURE(layer_forward, dense1_relu, dense(64), Shape{576}, kRelu);
BENCHMARK_CAPTURE(layer_forward, dense2, dense(10), Shape{64}, std::vector<LayerSpec>{});
BENCHMARK_CAPTURE(layer_forward, batch_norm, layer("batch_norm"), Shape{32, 13, 13},
                  std::vector<LayerSpec>{});
BENCHMARK_CAPTURE(layer_forward, max_pool, pool("max_pool2d", 2, 2), Shape{32, 26, 26},
                  std::vector<LayerSpec>{});
BENCHMARK_CAPTURE(layer_forward, avg_pool, pool("avg_pool2d", 2, 2), Shape{32, 26, 26},
                  std::vector<LayerSpec>{});
BENCHMARK_CAPTURE(layer_backward, conv1_relu_pool, conv2d(32, 3), Shape{1, 28, 28}, kReluPool);
BENCHMARK_CAPTURE(layer_backward, conv2_relu_pool, conv2d(64, 3), Shape{32, 13, 13}, kReluPool);
BENCHMARK_CAPTURE(layer_backward, conv3_relu, conv2d(64, 3), Shape{64, 5, 5}, kRelu);
BENCHMARK_CAPTURE(layer_backward, flatten, layer("flatten"), Shape{64, 3, 3}, std::vector<LayerSpec>{});
BENCHMARK_CAPTURE(layer_backward, dense1_relu, dense(64), Shape{576}, kRelu);
BENCHMARK_CAPTURE(layer_backward, dense2, dense(10), Shape{64}, std::vector<LayerSpec>{});
BENCHMARK_CAPTURE(layer_backward, batch_norm, layer("batch_norm"), Shape{32, 13, 13},
                  std::vector<LayerSpec>{});
BENCHMARK_CAPTURE(layer_backward, max_pool, pool("max_pool2d", 2, 2), Shape{32, 26, 26},
                  std::vector<LayerSpec>{});
BENCHMARK_CAPTURE(layer_backward, avg_pool, pool("avg_pool2d", 2, 2), Shape{32, 26, 26},
                  std::vector<LayerSpec>{});

}  // namespace
}  // namespace impart::nn::testing

BENCHMARK_MAIN();

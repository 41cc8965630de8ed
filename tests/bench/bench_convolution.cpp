// Speed of each convolution candidate on the layers of the zoo's networks: cifar stems, 32 samples in 8
// shards of 4, one thread. Flops are those of the direct convolution, whatever the candidate saves.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "impart/nn/network.hpp"
#include "nn/kernels/convolution.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

std::size_t size_of(std::int64_t n) { return static_cast<std::size_t>(n); }

struct LayerShape {
  std::int64_t channels, extent, filters, kernel, stride = 1, groups = 1, batch = 32, padding = -1;
};

// `padding` < 0: as much as keeps the extent.
constexpr std::array kLayers{
    LayerShape{3, 32, 64, 3},   // first layers
    LayerShape{64, 32, 64, 3},  // ResNet-18, ResNet-50 and VGG-16
    LayerShape{64, 32, 128, 3, 2},
    LayerShape{64, 32, 128, 1, 2},
    LayerShape{128, 16, 128, 3},
    LayerShape{128, 16, 256, 3, 2},
    LayerShape{256, 8, 256, 3},
    LayerShape{256, 8, 512, 3, 2},
    LayerShape{512, 4, 512, 3},
    LayerShape{64, 16, 128, 3},
    LayerShape{256, 4, 512, 3},
    LayerShape{512, 2, 512, 3},
    LayerShape{64, 32, 256, 1},
    LayerShape{256, 32, 64, 1},
    LayerShape{512, 16, 128, 1},
    LayerShape{128, 16, 512, 1},
    LayerShape{1024, 8, 256, 1},
    LayerShape{512, 16, 1024, 1, 2},
    LayerShape{2048, 4, 512, 1},
    LayerShape{512, 4, 2048, 1},
    LayerShape{16, 32, 96, 1},  // MobileNetV2
    LayerShape{96, 32, 24, 1},
    LayerShape{24, 32, 144, 1},
    LayerShape{192, 16, 32, 1},
    LayerShape{384, 8, 64, 1},
    LayerShape{960, 4, 160, 1},
    LayerShape{320, 4, 1280, 1},
    LayerShape{144, 32, 144, 3, 1, 144},
    LayerShape{192, 16, 192, 3, 2, 192},
    LayerShape{32, 13, 64, 3, 1, 1, 128, 0},  // the small CNN
    LayerShape{64, 5, 64, 3, 1, 1, 128, 0},
    LayerShape{576, 1, 64, 1, 1, 1, 128},
    LayerShape{64, 1, 10, 1, 1, 1, 128},
    LayerShape{784, 1, 1200, 1, 1, 1, 128},  // dense layers of the mlp
    LayerShape{1200, 1, 1200, 1, 1, 1, 128},
    LayerShape{1200, 1, 10, 1, 1, 1, 128},
};

ConvGeometry geometry(const LayerShape& l) {
  const Window window{l.kernel, l.stride, l.padding < 0 ? l.kernel / 2 : l.padding};
  const std::int64_t out = window.output_extent(l.extent);
  return {.batch = l.batch,
          .channels = l.channels,
          .height = l.extent,
          .width = l.extent,
          .filters = l.filters,
          .out_height = out,
          .out_width = out,
          .window = window,
          .groups = l.groups,
          .shards = 8};
}

void convolution(benchmark::State& state, const ConvCandidate& candidate, const ConvGeometry& g,
                 ConvDirection direction) {
  use_one_kernel_thread();
  Scratch scratch;
  const auto filled = [](std::int64_t n, std::uint64_t seed) {
    const auto v = normal_values(size_of(n), seed);
    return Values(v.begin(), v.end());
  };
  Values x = filled(g.shards * g.shard_input(), 1);
  Values y = filled(g.shards * g.shard_output(), 2);
  Values weight = filled(g.filters * g.taps(), 3);
  std::unique_ptr<ConvForward> forward;
  std::unique_ptr<ConvBackwardData> data;
  std::unique_ptr<ConvBackwardWeights> weights;
  if (direction == ConvDirection::kForward) forward = candidate.forward(g, {}, scratch);
  if (direction == ConvDirection::kData) data = candidate.data(g, {}, scratch);
  if (direction == ConvDirection::kWeights) weights = candidate.weights(g, {}, scratch);
  scratch.allocate();
  if (forward) forward->load(weight.data(), nullptr);
  if (data) data->load(weight.data());
  for (auto _ : state) {
    if (forward) forward->run(x.data(), y.data());
    if (data) data->run(y.data(), x.data(), false);
    if (weights) weights->run(x.data(), y.data(), weight.data(), nullptr);
    benchmark::ClobberMemory();
  }
  const double flops = 2.0 * static_cast<double>(g.batch * g.out_height * g.out_width * g.filters * g.taps());
  state.counters["flops"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

void add_cases() {
  constexpr std::array<std::string_view, 3> words{"forward", "data", "weights"};
  for (const auto& layer : kLayers) {
    const auto g = geometry(layer);
    for (const auto direction : {ConvDirection::kForward, ConvDirection::kData, ConvDirection::kWeights}) {
      for (const auto& candidate : conv_candidates()) {
        if (!candidate.serves(g, direction)) continue;
        const auto name = fmt::format(
            "{}/{}_{}x{}_{}_k{}s{}g{}/{}", words[static_cast<std::size_t>(direction)], g.channels, g.height,
            g.width, g.filters, g.window.kernel, g.window.stride, g.groups, candidate.name);
        benchmark::RegisterBenchmark(name.c_str(), [&candidate, g, direction](benchmark::State& state) {
          convolution(state, candidate, g, direction);
        })->Unit(benchmark::kMicrosecond);
      }
    }
  }
}

}  // namespace
}  // namespace impart::nn::testing

int main(int argc, char** argv) {
  impart::nn::testing::add_cases();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

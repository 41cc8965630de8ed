// Samples a second that one loader thread prepares, by the change that is made to them.

#include <benchmark/benchmark.h>

#include "impart/data/augment.hpp"
#include "memory_source.hpp"

namespace impart::data {
namespace {

void augment(benchmark::State& state, const std::vector<AugmentationPtr>& list) {
  constexpr std::int64_t kSamples = 512;
  const Shape shape{3, 32, 32};
  const auto dataset = testing_support::made_up_dataset(comm::Comm::world(), kSamples, shape, 10);
  Augmenter augmenter(dataset, list, 7);
  std::vector<float> out(static_cast<std::size_t>(shape.elements()));
  std::int64_t row = 0;
  for ([[maybe_unused]] auto _ : state) {
    augmenter.get(row % kSamples, row / kSamples, out);
    benchmark::DoNotOptimize(out.data());
    ++row;
  }
  state.SetItemsProcessed(state.iterations());
}

using List = std::vector<AugmentationPtr>;
AugmentationPtr of_kind(const char* kind) { return make_augmentation({{"kind", kind}}); }
BENCHMARK_CAPTURE(augment, none, List{});
BENCHMARK_CAPTURE(augment, flip, List{of_kind("flip")});
BENCHMARK_CAPTURE(augment, crop, List{of_kind("crop")});
BENCHMARK_CAPTURE(augment, crop_reflect,
                  List{make_augmentation({{"kind", "crop"}, {"padding_mode", "reflect"}})});
BENCHMARK_CAPTURE(augment, rotate, List{of_kind("rotate")});
BENCHMARK_CAPTURE(augment, shift, List{of_kind("shift")});
BENCHMARK_CAPTURE(augment, cutout, List{of_kind("cutout")});
BENCHMARK_CAPTURE(augment, noise, List{of_kind("noise")});
BENCHMARK_CAPTURE(augment, mixup, List{of_kind("mixup")});
BENCHMARK_CAPTURE(augment, cutmix, List{of_kind("cutmix")});
BENCHMARK_CAPTURE(augment, usual, List{of_kind("crop"), of_kind("flip")});

}  // namespace
}  // namespace impart::data

int main(int argc, char** argv) {
  const impart::comm::MpiSession session(&argc, &argv);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

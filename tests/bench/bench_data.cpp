// Samples a second that one loader thread prepares, by the change that is made to them.

#include <benchmark/benchmark.h>

#include "impart/data/augment.hpp"
#include "memory_source.hpp"

namespace impart::data {
namespace {

void augment(benchmark::State& state, const std::vector<Augmentation>& list) {
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

using List = std::vector<Augmentation>;
BENCHMARK_CAPTURE(augment, none, List{});
BENCHMARK_CAPTURE(augment, flip, List{{.kind = AugmentKind::kFlip, .probability = 0.5}});
BENCHMARK_CAPTURE(augment, crop, List{{.kind = AugmentKind::kCrop}});
BENCHMARK_CAPTURE(augment, crop_reflect,
                  List{{.kind = AugmentKind::kCrop, .padding_mode = PaddingMode::kReflect}});
BENCHMARK_CAPTURE(augment, rotate, List{{.kind = AugmentKind::kRotate}});
BENCHMARK_CAPTURE(augment, shift, List{{.kind = AugmentKind::kShift}});
BENCHMARK_CAPTURE(augment, cutout, List{{.kind = AugmentKind::kCutout}});
BENCHMARK_CAPTURE(augment, noise, List{{.kind = AugmentKind::kNoise}});
BENCHMARK_CAPTURE(augment, mixup, List{{.kind = AugmentKind::kMixup}});
BENCHMARK_CAPTURE(augment, cutmix, List{{.kind = AugmentKind::kCutmix}});
BENCHMARK_CAPTURE(augment, usual,
                  List{{.kind = AugmentKind::kCrop}, {.kind = AugmentKind::kFlip, .probability = 0.5}});

}  // namespace
}  // namespace impart::data

int main(int argc, char** argv) {
  const impart::comm::MpiSession session(&argc, &argv);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

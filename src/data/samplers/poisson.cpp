// Each sample joins a batch with the same probability, by itself.

#include <utility>
#include <vector>

#include "data/samplers/samplers.hpp"
#include "impart/core/rng.hpp"

namespace impart::data {

namespace {

class PoissonSequence final : public SampleSequence {
 public:
  PoissonSequence(DatasetPtr dataset, std::int64_t batch_size, std::uint64_t seed)
      : dataset_(std::move(dataset)),
        probability_(static_cast<double>(batch_size) / static_cast<double>(dataset_->size())),
        seed_(seed) {}

  std::span<const Draw> draws(std::int64_t step) override {
    const auto when = static_cast<std::uint64_t>(step);
    draws_.clear();
    for (std::int64_t row = 0; row < dataset_->size(); ++row) {
      Rng rng(seed_, "poisson", dataset_->id(row), when);
      if (rng.uniform_double() < probability_) draws_.push_back({row, step});
    }
    // What stands side by side in a file may be alike, and the samples of a shard share their statistics.
    Rng(seed_, "poisson order", 0, when).shuffle(std::span(draws_));
    return draws_;
  }

 private:
  DatasetPtr dataset_;
  double probability_;
  std::uint64_t seed_;
  std::vector<Draw> draws_;
};

/// What the analysis of DP-SGD by subsampled Gaussians asks for (Abadi et al. 2016: "Deep learning with
/// differential privacy", section 3.1; Mironov, Talwar, Zhang 2019), as Opacus's UniformWithReplacementSampler:
/// a sample joins a step with probability batch_size / samples, whatever the others do.
class Poisson final : public Sampler {
 public:
  [[nodiscard]] SamplerTraits traits() const override { return {.varying = true}; }
  [[nodiscard]] std::unique_ptr<SampleSequence> over(DatasetPtr dataset, std::int64_t batch_size,
                                                     std::uint64_t seed) const override {
    return std::make_unique<PoissonSequence>(std::move(dataset), batch_size, seed);
  }
};

}  // namespace

SamplerPtr make_poisson(Settings& /*settings*/) { return std::make_shared<Poisson>(); }

}  // namespace impart::data

// Each sample once an epoch: in a new order in each, or in that of the data.

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "data/samplers/samplers.hpp"
#include "impart/core/rng.hpp"

namespace impart::data {

namespace {

class EpochSequence final : public SampleSequence {
 public:
  EpochSequence(std::int64_t samples, std::int64_t batch_size, std::uint64_t seed, bool shuffle)
      : samples_(samples),
        batch_size_(batch_size),
        seed_(seed),
        shuffle_(shuffle),
        order_(static_cast<std::size_t>(samples)) {
    std::iota(order_.begin(), order_.end(), 0);
  }

  std::span<const Draw> draws(std::int64_t step) override {
    const auto steps = steps_per_epoch(samples_, batch_size_);
    const auto epoch = step / steps;
    if (shuffle_ && epoch != epoch_) {
      order_ = Rng(seed_, "shuffle", 0, static_cast<std::uint64_t>(epoch)).permutation(samples_);
      epoch_ = epoch;
    }
    const auto first = (step % steps) * batch_size_;
    const auto last = std::min(first + batch_size_, samples_);
    draws_.clear();
    for (auto i = first; i < last; ++i) draws_.push_back({order_[static_cast<std::size_t>(i)], epoch});
    return draws_;
  }

 private:
  std::int64_t samples_;
  std::int64_t batch_size_;
  std::uint64_t seed_;
  bool shuffle_;
  std::int64_t epoch_ = -1;  // of the order
  std::vector<std::int64_t> order_;
  std::vector<Draw> draws_;
};

class EpochSampler final : public Sampler {
 public:
  explicit EpochSampler(bool shuffle) : shuffle_(shuffle) {}

  [[nodiscard]] std::unique_ptr<SampleSequence> over(DatasetPtr dataset, std::int64_t batch_size,
                                                     std::uint64_t seed) const override {
    return std::make_unique<EpochSequence>(dataset->size(), batch_size, seed, shuffle_);
  }

 private:
  bool shuffle_;
};

}  // namespace

SamplerPtr make_shuffled(Settings& /*settings*/) { return std::make_shared<EpochSampler>(true); }
SamplerPtr make_sequential(Settings& /*settings*/) { return std::make_shared<EpochSampler>(false); }

}  // namespace impart::data

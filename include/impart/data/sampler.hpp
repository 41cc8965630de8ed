// Sampler: which samples of a data set make each step.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "impart/core/registry.hpp"
#include "impart/core/settings.hpp"
#include "impart/data/dataset.hpp"

namespace impart::data {

/// Steps of an epoch: those in which as many samples are drawn as there are, the last batch maybe smaller.
std::int64_t steps_per_epoch(std::int64_t samples, std::int64_t batch_size);

/// One sample of a step.
struct Draw {
  std::int64_t row = 0;  ///< in the dataset
  /// Keys its augmentation, so that a sample is not seen twice with the same changes: the epoch, or how often
  /// it came before, or the step.
  std::int64_t visit = 0;
};

/// The samples of each step over one dataset, of all ranks together: a pure function of the seed and the
/// step. Not thread-safe: it keeps the order of where it is.
class SampleSequence {
 public:
  virtual ~SampleSequence() = default;
  /// Of `step`, in the order in which shards are filled; valid until the next call. Any step may be asked
  /// for; the next one is quick.
  virtual std::span<const Draw> draws(std::int64_t step) = 0;
};

/// What holds for a kind of sampler, whatever the data.
struct SamplerTraits {
  bool one_label = false;  ///< needs samples with one label each
  /// Batches are of any size, also empty; gradients are divided by the size that is expected, batch_size (or
  /// all samples, when there are fewer).
  bool varying = false;
};

/// A kind of sampler with its settings. Immutable.
class Sampler {
 public:
  virtual ~Sampler() = default;

  [[nodiscard]] virtual SamplerTraits traits() const { return {}; }
  /// Throws Error (usage) when this cannot draw from samples with so many labels each.
  void check(std::int64_t labels_per_sample) const;
  /// REQUIRES: check passes; `dataset` has samples.
  [[nodiscard]] virtual std::unique_ptr<SampleSequence> over(DatasetPtr dataset, std::int64_t batch_size,
                                                             std::uint64_t seed) const = 0;
};

using SamplerPtr = std::shared_ptr<const Sampler>;

/// shuffled, which is the default, sequential, balanced, poisson.
const Registry<SamplerPtr>& samplers();
inline constexpr std::string_view kDefaultSampler = "shuffled";
/// The one of that name, with its default settings. Throws Error (usage).
SamplerPtr make_sampler(std::string_view kind);

}  // namespace impart::data

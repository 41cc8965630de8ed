// Augmentation and Augmenter: random changes of training samples, which depend on the sample and the epoch
// alone.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "impart/core/registry.hpp"
#include "impart/core/rng.hpp"
#include "impart/core/settings.hpp"
#include "impart/core/tensor.hpp"
#include "impart/data/dataset.hpp"

namespace impart::data {

/// What a kind of change is.
struct AugmentTraits {
  std::string_view name;  ///< its kind, which is also part of the key of its draws
  bool images = true;     ///< changes nothing but images, (C, H, W)
  bool mixes = false;     ///< mixes a sample, and its label, with those of another
};

/// One random change. Names and defaults are torchvision's, where it has them. Samples are changed as the
/// network gets them, so 0 is the mean of a normalised channel. Immutable, so that any number of threads may
/// use one.
class Augmentation {
 public:
  virtual ~Augmentation() = default;
  Augmentation(const Augmentation&) = delete;
  Augmentation& operator=(const Augmentation&) = delete;

  [[nodiscard]] const AugmentTraits& traits() const noexcept { return traits_; }
  /// That a sample is changed.
  [[nodiscard]] double probability() const noexcept { return probability_; }
  /// Throws Error (usage) when this cannot be done to samples of this shape.
  void check(const Shape& sample) const;
  /// Changes `values`, a sample of this shape, by draws of `rng`. `other`, of the same size, is what it is
  /// mixed with, or else scratch. Returns lambda: the target is lambda * the sample's own label + (1 - lambda)
  /// * that of the other; 1 where nothing is mixed. REQUIRES: check(sample) passes.
  virtual float apply(const Shape& sample, Rng& rng, std::span<float> values,
                      std::span<float> other) const = 0;

 protected:
  /// Reads `probability`, which all have. A kind reads its own settings in its constructor.
  Augmentation(const AugmentTraits& traits, Settings& settings, double probability = 1.0);

 private:
  /// Throws Error (usage) when samples of this shape, images if `traits` say so, are too small.
  virtual void check_size(const Shape& /*sample*/) const {}

  AugmentTraits traits_;
  double probability_;
};

using AugmentationPtr = std::shared_ptr<const Augmentation>;

/// flip, crop, rotate, shift, cutout, noise, mixup, cutmix.
const Registry<AugmentationPtr>& augmentations();
/// The one that a table { kind, ... } says. Throws Error (usage).
AugmentationPtr make_augmentation(const SettingTable& table);

/// What a sample was mixed with: the target is lambda * its own label + (1 - lambda) * that of `partner`.
struct Mix {
  std::int64_t partner = 0;  ///< row in the dataset
  float lambda = 1.0F;       ///< of the sample itself; 1 when it was not mixed
};

/// Gives the samples of a dataset, changed. Each draw is keyed by (seed, place in the list, sample id,
/// visit): what a sample becomes does not depend on who asks, in what order, or for which others. Changes are
/// made in the order of the list. A mixing kind comes last: its partner is any sample of the dataset, with
/// the changes that it has itself in this visit; of several mixing kinds a sample gets one, each equally
/// likely. Not thread-safe: it has scratch of its own.
class Augmenter {
 public:
  /// Throws as Augmentation::check does, and Error (usage) for changes of sequences.
  Augmenter(DatasetPtr dataset, const std::vector<AugmentationPtr>& list, std::uint64_t seed);

  /// Whether some samples are mixed.
  [[nodiscard]] bool mixes() const noexcept { return !mixing_.empty(); }
  /// Sample `row`, for the time `visit`: the epoch, where each sample is seen once in one. REQUIRES:
  /// out.size() == sample_shape().elements().
  Mix get(std::int64_t row, std::int64_t visit, std::span<float> out);

 private:
  /// A change and the purpose of its draws.
  struct Step {
    AugmentationPtr what;
    std::string purpose;
  };

  void get_unmixed(std::int64_t row, std::int64_t visit, std::span<float> out);

  DatasetPtr dataset_;
  std::uint64_t seed_;
  std::vector<Step> changes_;
  std::vector<Step> mixing_;
  std::vector<float> partner_;
  std::vector<float> scratch_;
};

}  // namespace impart::data

// Augmenter: random changes of training samples, which depend on the sample and the epoch alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "impart/core/tensor.hpp"
#include "impart/data/dataset.hpp"

namespace impart::data {

enum class AugmentKind : std::uint8_t {
  kFlip,
  kCrop,    ///< padded on every side, then cut to the old size at a random place (He et al. 2016, 4.2)
  kRotate,  ///< about the centre, bilinear
  kShift,
  kCutout,  ///< DeVries and Taylor 2017
  kNoise,   ///< normal, added to every value
  kMixup,   ///< Zhang et al. 2018
  kCutmix,  ///< Yun et al. 2019
};

/// What stands beyond an image's edge.
enum class PaddingMode : std::uint8_t {
  kConstant,  ///< `fill`
  kEdge,      ///< the nearest pixel
  kReflect,   ///< the image mirrored at its outermost pixel
};

/// One random change. Names and defaults are torchvision's, where it has them. Samples are changed as the
/// network gets them, so 0 is the mean of a normalised channel.
struct Augmentation {
  AugmentKind kind = AugmentKind::kFlip;
  double probability =
      1.0;                ///< that a sample is changed; a flip's default is 0.5 (the reader of decks knows)
  bool vertical = false;  ///< kFlip: upside down instead of left and right
  std::int64_t padding = 4;                           ///< kCrop: pixels on every side
  PaddingMode padding_mode = PaddingMode::kConstant;  ///< kCrop, kShift
  double fill = 0.0;       ///< kCrop, kRotate, kShift, kCutout: value of what is not there
  double degrees = 10.0;   ///< kRotate: uniform in +-degrees
  double translate = 0.1;  ///< kShift: up to this part of height and width, in whole pixels
  std::int64_t size = 16;  ///< kCutout: side of the square; its centre is anywhere in the image
  std::int64_t holes = 1;  ///< kCutout
  double deviation = 0.1;  ///< kNoise
  double alpha = 1.0;  ///< kMixup, kCutmix: the share of the sample itself is drawn from Beta(alpha, alpha)
};

/// The words of decks, in the order of AugmentKind.
std::vector<std::string_view> augment_words();

/// Whether the kind mixes two samples and their labels.
bool mixes(AugmentKind kind);

/// Throws Error (usage) when `augmentation` cannot be done to samples of this shape: images are (C, H, W).
void check_augmentation(const Augmentation& augmentation, const Shape& sample);

/// What a sample was mixed with: the target is share * its own label + (1 - share) * that of `partner`.
struct Mix {
  std::int64_t partner = 0;  ///< row in the dataset
  float share = 1.0F;        ///< of the sample itself; 1 when it was not mixed
};

/// Gives the samples of a dataset, changed. Each draw is keyed by (seed, place in the list, sample id,
/// epoch): what a sample becomes does not depend on who asks, in what order, or for which others. Changes are
/// made in the order of the list. A mixing kind comes last: its partner is any sample of the dataset, with
/// the changes that it has itself in this epoch; of several mixing kinds a sample gets one, each equally
/// likely. Not thread-safe: it has scratch of its own.
class Augmenter {
 public:
  /// Throws as check_augmentation does, and Error (usage) for changes of sequences.
  Augmenter(DatasetPtr dataset, std::vector<Augmentation> list, std::uint64_t seed);

  /// Whether some samples are mixed.
  [[nodiscard]] bool mixes() const noexcept { return !mixing_.empty(); }
  /// Sample `row` in `epoch`. REQUIRES: out.size() == sample_shape().elements().
  Mix get(std::int64_t row, std::int64_t epoch, std::span<float> out);

 private:
  /// A change and the purpose of its draws.
  struct Step {
    Augmentation what;
    std::string purpose;
  };

  void get_unmixed(std::int64_t row, std::int64_t epoch, std::span<float> out);

  DatasetPtr dataset_;
  std::uint64_t seed_;
  std::vector<Step> changes_;
  std::vector<Step> mixing_;
  std::vector<float> partner_;
  std::vector<float> scratch_;
};

}  // namespace impart::data

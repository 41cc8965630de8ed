#include "impart/data/augment.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "data/image_changes.hpp"
#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"

namespace impart::data {

namespace {

/// By AugmentKind: the word of decks, whether it needs an image, whether it mixes two samples.
struct Trait {
  std::string_view word;
  bool image;
  bool mixes;
};
constexpr std::array<Trait, 8> kTraits{{{"flip", true, false},
                                        {"crop", true, false},
                                        {"rotate", true, false},
                                        {"shift", true, false},
                                        {"cutout", true, false},
                                        {"noise", false, false},
                                        {"mixup", false, true},
                                        {"cutmix", true, true}}};

const Trait& trait(AugmentKind kind) { return kTraits.at(static_cast<std::size_t>(kind)); }

ImageSize image_size(const Shape& shape) { return {shape[0], shape[1], shape[2]}; }

void require_range(const char* what, bool holds, const std::string& expected, double got) {
  if (holds) return;
  throw Error("outside its range", ErrorKind::kUsage).at(what).expected(expected).got(fmt::format("{}", got));
}

/// Uniform in -most to most, in whole steps.
std::int64_t draw_offset(Rng& rng, std::int64_t most) {
  return static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(2 * most + 1))) - most;
}

/// In whole pixels; at least one stays in the image.
std::int64_t most_shift(double part, std::int64_t extent) {
  return std::min<std::int64_t>(std::llround(part * static_cast<double>(extent)), extent - 1);
}

double draw_share(Rng& rng, double alpha) {
  const double own = rng.gamma(alpha);
  const double other = rng.gamma(alpha);
  // For a tiny alpha both may underflow; then the sample stays what it is.
  return own + other > 0 ? own / (own + other) : 1.0;
}

/// A rectangle of the part `area` of the image about a random pixel; what lies outside is cut off.
Box draw_box(Rng& rng, const ImageSize& size, double area) {
  const double side = 0.5 * std::sqrt(area);
  const auto half_height = static_cast<std::int64_t>(side * static_cast<double>(size.height));
  const auto half_width = static_cast<std::int64_t>(side * static_cast<double>(size.width));
  const auto y = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(size.height)));
  const auto x = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(size.width)));
  return clipped({y - half_height, x - half_width, y + half_height, x + half_width}, size);
}

void cut_out(const Augmentation& what, const ImageSize& size, Rng& rng, std::span<float> out) {
  for (std::int64_t hole = 0; hole < what.holes; ++hole) {
    const auto y = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(size.height)));
    const auto x = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(size.width)));
    const auto top = y - what.size / 2;
    const auto left = x - what.size / 2;
    fill_box(out, size, clipped({top, left, top + what.size, left + what.size}, size),
             static_cast<float>(what.fill));
  }
}

/// Changes `out`; `scratch` is of the same size.
void change(const Augmentation& what, const Shape& shape, Rng& rng, std::span<float> out,
            std::span<float> scratch) {
  if (what.probability < 1 && rng.uniform_double() >= what.probability) return;
  const auto fill = static_cast<float>(what.fill);
  const auto move = [&](std::int64_t most_down, std::int64_t most_right) {
    const auto down = draw_offset(rng, most_down);
    const auto right = draw_offset(rng, most_right);
    std::copy(out.begin(), out.end(), scratch.begin());
    translate(scratch, image_size(shape), down, right, what.padding_mode, fill, out);
  };
  switch (what.kind) {
    case AugmentKind::kFlip:
      flip(out, image_size(shape), what.vertical);
      break;
    case AugmentKind::kCrop:
      move(what.padding, what.padding);
      break;
    case AugmentKind::kShift:
      move(most_shift(what.translate, shape[1]), most_shift(what.translate, shape[2]));
      break;
    case AugmentKind::kRotate:
      std::copy(out.begin(), out.end(), scratch.begin());
      rotate(scratch, image_size(shape), what.degrees * (2 * rng.uniform_double() - 1), fill, out);
      break;
    case AugmentKind::kCutout:
      cut_out(what, image_size(shape), rng, out);
      break;
    case AugmentKind::kNoise:
      add_noise(out, static_cast<float>(what.deviation), rng);
      break;
    case AugmentKind::kMixup:
    case AugmentKind::kCutmix:
      break;  // Augmenter::get mixes, when all other changes are made
  }
}

}  // namespace

std::vector<std::string_view> augment_words() {
  std::vector<std::string_view> words;
  for (const auto& each : kTraits) words.push_back(each.word);
  return words;
}

bool mixes(AugmentKind kind) { return trait(kind).mixes; }

void check_augmentation(const Augmentation& what, const Shape& sample) {
  const auto& [word, needs_image, mixing] = trait(what.kind);
  if (needs_image && sample.rank() != 3) {
    throw Error(fmt::format("{} changes images", word), ErrorKind::kUsage)
        .expected("samples of shape (C, H, W)")
        .got(sample.str());
  }
  require_range("probability", what.probability >= 0 && what.probability <= 1, "0 to 1", what.probability);
  require_range("alpha", !mixing || (what.alpha > 0 && std::isfinite(what.alpha)), "above 0", what.alpha);
  require_range("deviation", what.deviation >= 0 && std::isfinite(what.deviation), "at least 0",
                what.deviation);
  if (!needs_image) return;
  const auto smaller = std::min(sample[1], sample[2]);
  require_range("padding", what.kind != AugmentKind::kCrop || (what.padding >= 0 && what.padding < smaller),
                fmt::format("0 to {} for images of {}", smaller - 1, sample.str()),
                static_cast<double>(what.padding));
  require_range("size", what.kind != AugmentKind::kCutout || (what.size >= 1 && what.size <= smaller),
                fmt::format("1 to {} for images of {}", smaller, sample.str()),
                static_cast<double>(what.size));
  require_range("holes", what.holes >= 1, "at least 1", static_cast<double>(what.holes));
  require_range("translate", what.translate >= 0 && what.translate < 1, "at least 0 and below 1",
                what.translate);
  require_range("degrees", what.degrees >= 0 && what.degrees <= 180, "0 to 180", what.degrees);
}

Augmenter::Augmenter(DatasetPtr dataset, std::vector<Augmentation> list, std::uint64_t seed)
    : dataset_(std::move(dataset)), seed_(seed) {
  if (!list.empty() && dataset_->labels_per_sample() != 1) {
    throw Error("a sequence cannot be augmented", ErrorKind::kUsage).expected("samples with one label each");
  }
  for (std::size_t i = 0; i < list.size(); ++i) {
    check_augmentation(list[i], dataset_->sample_shape());
    auto& steps = data::mixes(list[i].kind) ? mixing_ : changes_;
    steps.push_back({list[i], fmt::format("augment {} {}", i, trait(list[i].kind).word)});
  }
  const auto elements = static_cast<std::size_t>(dataset_->sample_shape().elements());
  scratch_.resize(elements);
  if (mixes()) partner_.resize(elements);
}

void Augmenter::get_unmixed(std::int64_t row, std::int64_t epoch, std::span<float> out) {
  dataset_->get(row, out);
  for (const auto& [what, purpose] : changes_) {
    Rng rng(seed_, purpose, dataset_->id(row), static_cast<std::uint64_t>(epoch));
    change(what, dataset_->sample_shape(), rng, out, scratch_);
  }
}

Mix Augmenter::get(std::int64_t row, std::int64_t epoch, std::span<float> out) {
  get_unmixed(row, epoch, out);
  if (!mixes()) return {row, 1.0F};
  const auto id = dataset_->id(row);
  const auto when = static_cast<std::uint64_t>(epoch);
  const auto chosen = mixing_.size() == 1 ? 0 : Rng(seed_, "augment choose", id, when).below(mixing_.size());
  const auto& [what, purpose] = mixing_[chosen];
  Rng rng(seed_, purpose, id, when);
  if (rng.uniform_double() >= what.probability) return {row, 1.0F};
  const auto partner = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(dataset_->size())));
  const double share = draw_share(rng, what.alpha);
  get_unmixed(partner, epoch, partner_);
  if (what.kind == AugmentKind::kMixup) {
    const auto own = static_cast<float>(share);
    const float other = 1.0F - own;
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = own * out[i] + other * partner_[i];
    return {partner, own};
  }
  const auto size = image_size(dataset_->sample_shape());
  const auto box = draw_box(rng, size, 1.0 - share);
  paste_box(out, partner_, size, box);
  const auto pasted = static_cast<double>((box.bottom - box.top) * (box.right - box.left));
  return {partner, static_cast<float>(1.0 - pasted / static_cast<double>(size.height * size.width))};
}

}  // namespace impart::data

#include <fmt/format.h>

#include <utility>

#include "impart/core/error.hpp"
#include "impart/data/augment.hpp"

namespace impart::data {

Augmenter::Augmenter(DatasetPtr dataset, const std::vector<AugmentationPtr>& list, std::uint64_t seed)
    : dataset_(std::move(dataset)), seed_(seed) {
  if (!list.empty() && dataset_->labels_per_sample() != 1) {
    throw Error("a sequence cannot be augmented", ErrorKind::kUsage).expected("samples with one label each");
  }
  for (std::size_t i = 0; i < list.size(); ++i) {
    list[i]->check(dataset_->sample_shape());
    const auto& traits = list[i]->traits();
    auto& steps = traits.mixes ? mixing_ : changes_;
    steps.push_back({list[i], fmt::format("augment {} {}", i, traits.name)});
  }
  const auto elements = static_cast<std::size_t>(dataset_->sample_shape().elements());
  scratch_.resize(elements);
  if (mixes()) partner_.resize(elements);
}

void Augmenter::get_unmixed(std::int64_t row, std::int64_t visit, std::span<float> out) {
  dataset_->get(row, out);
  for (const auto& [what, purpose] : changes_) {
    Rng rng(seed_, purpose, dataset_->id(row), static_cast<std::uint64_t>(visit));
    if (what->probability() < 1 && rng.uniform_double() >= what->probability()) continue;
    what->apply(dataset_->sample_shape(), rng, out, scratch_);
  }
}

Mix Augmenter::get(std::int64_t row, std::int64_t visit, std::span<float> out) {
  get_unmixed(row, visit, out);
  if (!mixes()) return {row, 1.0F};
  const auto id = dataset_->id(row);
  const auto when = static_cast<std::uint64_t>(visit);
  const auto chosen = mixing_.size() == 1 ? 0 : Rng(seed_, "augment choose", id, when).below(mixing_.size());
  const auto& [what, purpose] = mixing_[chosen];
  Rng rng(seed_, purpose, id, when);
  if (rng.uniform_double() >= what->probability()) return {row, 1.0F};
  const auto partner = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(dataset_->size())));
  get_unmixed(partner, visit, partner_);
  return {partner, what->apply(dataset_->sample_shape(), rng, out, partner_)};
}

}  // namespace impart::data

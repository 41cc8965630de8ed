#include "impart/train/transform.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "impart/core/error.hpp"
#include "train/transforms/transforms.hpp"

namespace impart::train {

namespace {

constexpr Registry<GradientTransformPtr>::Entry kTransforms[] = {
    {"l2", "adds l2 / 2 times the sum of the squares of all weights to the loss", read_l2},
    {"proximal", "adds mu / 2 times the squared distance from where the run began to the loss",
     read_proximal},
    {"clip_norm", "shortens the gradient of all parameters together", read_clip_norm},
    {"clip_value", "cuts each value of the gradient off", read_clip_value},
};

}  // namespace

const Registry<GradientTransformPtr>& gradient_transforms() {
  static const Registry<GradientTransformPtr> registry("transform", kTransforms);
  return registry;
}

void GradientTransform::start(const StateDict&, std::span<StateDict>) const {}

std::size_t transform_slots(std::span<const GradientTransformPtr> transforms) {
  std::size_t count = 0;
  for (const auto& transform : transforms) count += transform->slot_names().size();
  return count;
}

TransformChain::TransformChain(std::vector<GradientTransformPtr> transforms, const StateLayoutPtr& layout)
    : transforms_(std::move(transforms)) {
  for (std::size_t i = 0; i < transforms_.size(); ++i) {
    auto& own = slots_.emplace_back();
    for (const auto& slot : transforms_[i]->slot_names()) {
      auto& kept = named_.emplace_back(fmt::format("{}.{}.{}", i + 1, transforms_[i]->name(), slot),
                                       StateDict(layout));
      own.push_back(StateDict::view(layout, kept.second.arena()));
    }
  }
}

void TransformChain::start(const StateDict& state) {
  for (std::size_t i = 0; i < transforms_.size(); ++i) transforms_[i]->start(state, slots_[i]);
}

double TransformChain::apply(const StateDict& state, StateDict& gradient, std::int64_t update,
                             const TrainedParameters& parameters) {
  double penalty = 0;
  for (std::size_t i = 0; i < transforms_.size(); ++i)
    penalty += transforms_[i]->apply({state, gradient, update, parameters, slots_[i]});
  return penalty;
}

void TransformChain::restore(std::span<const std::pair<std::string, StateDict>> slots) {
  const bool fits = std::ranges::equal(
      slots, named_, {}, [](const auto& slot) { return slot.first; },
      [](const auto& slot) { return slot.first; });
  if (!fits) {
    throw Error("the saved state of the gradient transforms does not fit")
        .expected(fmt::format("{} slots", named_.size()))
        .got(std::to_string(slots.size()));
  }
  for (std::size_t i = 0; i < slots.size(); ++i) copy_by_name(slots[i].second, named_[i].second);
}

}  // namespace impart::train

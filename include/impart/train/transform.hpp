// GradientTransform: what is done to the summed gradient before the optimizer sees it: penalties, proximal
// terms, control variates, clipping, noise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "impart/core/registry.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/train/trained_parameters.hpp"

namespace impart::train {

/// What a transform works on.
struct GradientStep {
  const StateDict& state;  ///< before the update
  /// Of the mean loss over the update's samples, the same on all ranks that have the same part of the model.
  /// Changed in place; only what `parameters` names has a meaning, and buffers are not touched.
  StateDict& gradient;
  std::int64_t update = 0;              ///< its number, from 0
  const TrainedParameters& parameters;  ///< that are trained; with the threads, and sums over split tensors
  std::span<StateDict> slots;           ///< the transform's own, as `slot_names` says
};

/// One transform. A transform itself holds settings alone and is the same for all runs and threads: what
/// changes along a run is in slots, which the frame keeps, saves, and gives back when a stopped run goes on.
/// With local steps each shard has slots of its own, which are averaged as its weights are.
class GradientTransform {
 public:
  virtual ~GradientTransform() = default;

  [[nodiscard]] virtual std::string_view name() const = 0;
  /// Arrays of the parameters' size that it keeps: one name each.
  [[nodiscard]] virtual std::vector<std::string> slot_names() const { return {}; }
  /// Fills the slots, which are zero, before the first update of a run that begins at `state`. With a tensor
  /// axis, `state` is this rank's part.
  virtual void start(const StateDict& state, std::span<StateDict> slots) const;
  /// Once an update, between reduction and optimizer. Returns what is added to the reported loss, the same on
  /// all ranks: 0 unless it is the gradient of a penalty.
  virtual double apply(const GradientStep& step) const = 0;
};

using GradientTransformPtr = std::shared_ptr<const GradientTransform>;

/// Penalty l2 / 2 times the sum of the squares of all trained tensors of two or more extents (no biases, no
/// scales of a normalisation).
GradientTransformPtr make_l2(double l2);
/// Shortens the gradient of all trained parameters together to this length, as
/// torch.nn.utils.clip_grad_norm_.
GradientTransformPtr make_clip_norm(double norm);
/// Cuts each value of the gradient off at +-limit.
GradientTransformPtr make_clip_value(double limit);
/// Penalty mu / 2 times the squared distance of all trained parameters from `reference` (FedProx: Li et al.
/// 2020, "Federated optimization in heterogeneous networks", eq. 2); null: from where the run begins. Throws
/// Error, when a run starts, if the reference has other tensors.
GradientTransformPtr make_proximal(double mu, std::shared_ptr<const StateDict> reference = nullptr);

/// The kinds that a deck can name.
const Registry<GradientTransformPtr>& gradient_transforms();

/// Slots of all transforms together.
std::size_t transform_slots(std::span<const GradientTransformPtr> transforms);

/// The transforms of one run, in order, with their slots.
class TransformChain {
 public:
  TransformChain(std::vector<GradientTransformPtr> transforms, const StateLayoutPtr& layout);

  /// Before the first update of a run that begins at `state`.
  void start(const StateDict& state);
  /// All of them. Returns what is added to the loss.
  double apply(const StateDict& state, StateDict& gradient, std::int64_t update,
               const TrainedParameters& parameters);
  [[nodiscard]] bool empty() const noexcept { return transforms_.empty(); }

  /// Name and state of each slot: "1.proximal.reference".
  [[nodiscard]] std::span<std::pair<std::string, StateDict>> slots() noexcept { return named_; }
  [[nodiscard]] std::span<const std::pair<std::string, StateDict>> slots() const noexcept { return named_; }
  /// Takes saved slots back. Throws Error when they don't fit.
  void restore(std::span<const std::pair<std::string, StateDict>> slots);

 private:
  std::vector<GradientTransformPtr> transforms_;
  std::vector<std::pair<std::string, StateDict>> named_;
  std::vector<std::vector<StateDict>> slots_;  // of each transform: views on named_
};

}  // namespace impart::train

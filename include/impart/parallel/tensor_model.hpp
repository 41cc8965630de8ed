// TensorModel: one rank's part of a model whose tensors are split over a group of ranks.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "impart/comm/comm.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/spec.hpp"
#include "impart/parallel/tensor_plan.hpp"

namespace impart::parallel {

class TensorModel {
 public:
  /// `tensor`: the ranks that share the model, borrowed. Throws as plan_tensors does, on all of them.
  TensorModel(const nn::ModelSpec& spec, const comm::Comm& tensor);

  [[nodiscard]] const TensorPlan& plan() const noexcept { return plan_; }
  /// What this rank computes. Networks of it are collective over the ranks: all run the same passes in the
  /// same order, on the same samples.
  [[nodiscard]] const nn::ModelSpec& spec() const noexcept { return plan_.local; }

  /// What this rank trains, and by which loss: with a cross entropy on at least kSplitClasses classes that
  /// come in parts, the whole outputs are never gathered. Otherwise it is spec() and no other loss.
  struct Training {
    nn::ModelSpec spec;
    std::unique_ptr<nn::Objective> objective;  ///< null: the given one
  };
  /// Fewer are gathered as fast as their sums are exchanged.
  static constexpr int kSplitClasses = 512;
  /// Borrows `objective`. Throws Error (usage) when that sees more of the model than its outputs.
  [[nodiscard]] Training training(const nn::Objective& objective) const;

  /// This rank's part of values that belong to the whole model, or to some of its tensors.
  [[nodiscard]] StateDict slice(const StateDict& whole) const;
  /// Back, bit for bit. Collective; empty where `keep` is false.
  [[nodiscard]] StateDict gather(const StateDict& part, bool keep = true) const;
  /// `sums` are of this rank's parts of the tensors of these names; they become those of the whole ones.
  /// Collective.
  void sum_parts(std::span<const std::string> names, std::span<double> sums) const;
  /// True when some rank says so. Collective.
  [[nodiscard]] bool any(bool mine) const;

  /// Spent in communication between the ranks since the model was made.
  [[nodiscard]] double seconds() const noexcept;

 private:
  nn::ModelSpec whole_;
  const comm::Comm& tensor_;
  std::shared_ptr<TensorAxis> axis_;
  TensorPlan plan_;
};

}  // namespace impart::parallel

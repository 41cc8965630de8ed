// DistilLoss: what a student minimises, beside or instead of the loss on labels, to learn from its teachers.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "impart/core/registry.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/core/tensor.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/spec.hpp"

namespace impart::share {

/// One network that is learnt from. Borrowed.
struct Teacher {
  const nn::ModelSpec* spec = nullptr;
  const StateDict* state = nullptr;
};

/// What an objective is made of. All that is borrowed outlives it.
struct DistilInputs {
  const nn::ModelSpec& student;
  std::span<const Teacher> teachers = {};  ///< take the student's inputs as they are
  /// Of each row of the training data (and, of sequences, each of its labels): the mean of the teachers'
  /// probabilities at DistilLoss::table_temperature, (rows, classes). Null where that is nothing.
  const Tensor* probabilities = nullptr;
  std::unique_ptr<nn::Objective> labels = nn::make_cross_entropy();  ///< what the labels are worth
};

/// A loss with its settings. Immutable.
class DistilLoss {
 public:
  virtual ~DistilLoss() = default;

  /// The temperature of the table of probabilities that it learns from; nothing: it needs no table.
  [[nodiscard]] virtual std::optional<double> table_temperature() const { return std::nullopt; }
  /// Throws Error (usage) when it cannot teach `student` by `teachers`.
  virtual void check(const nn::ModelSpec& /*student*/,
                     std::span<const nn::ModelSpec* const> /*teachers*/) const {}
  /// REQUIRES: check passes. Throws Error (usage) for labels' losses that it cannot be mixed with.
  [[nodiscard]] virtual std::unique_ptr<nn::Objective> objective(DistilInputs inputs) const = 0;
};

/// hinton, hint.
const Registry<std::unique_ptr<DistilLoss>>& distil_losses();

}  // namespace impart::share

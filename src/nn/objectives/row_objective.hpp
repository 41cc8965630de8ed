// RowObjective: a sum over rows of outputs, each with a loss of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "impart/nn/objective.hpp"

namespace impart::nn {

/// What one row should give: share of `label`, and the rest of `other`.
struct RowTarget {
  std::size_t label = 0;
  std::size_t other = 0;
  double share = 1;

  [[nodiscard]] double operator[](std::size_t k) const {
    return (k == label ? share : 0.0) + (k == other ? 1 - share : 0.0);
  }
};

/// The target of row `row`. REQUIRES: labels are not negative.
RowTarget target_of(const Targets& targets, std::size_t row);

class RowObjective : public Objective {
 public:
  /// Checks extents and labels once, so that the losses of rows are plain arithmetic.
  double evaluate(std::span<const float> outputs, const Targets& targets, std::int64_t classes, float scale,
                  std::span<float> gradient) const final;

 protected:
  /// The loss of one row; writes `scale` times its gradient, unless `gradient` is empty. A NaN in `z` must
  /// come out as one.
  [[nodiscard]] virtual double row(std::span<const float> z, const RowTarget& target, double scale,
                                   std::span<float> gradient) const = 0;
  /// Throws Error when this loss is for another number of classes.
  virtual void check_classes(std::int64_t /*classes*/) const {}
};

}  // namespace impart::nn

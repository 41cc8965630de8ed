// AdaptLoss: what a model minimises beside the loss on labels, to work on a domain that has none.
#pragma once

#include <memory>

#include "impart/core/registry.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/spec.hpp"

namespace impart::share {

/// A loss with its settings. Immutable. Its objectives read two streams: the source domain with labels, and
/// the target domain without.
class AdaptLoss {
 public:
  virtual ~AdaptLoss() = default;

  /// Throws Error (usage) when it cannot adapt a model of `spec`.
  virtual void check(const nn::ModelSpec& /*spec*/) const {}
  /// REQUIRES: check passes. `labels`: what the source's labels are worth.
  [[nodiscard]] virtual std::unique_ptr<nn::Objective> objective(
      const nn::ModelSpec& spec, std::unique_ptr<nn::Objective> labels) const = 0;
};

/// coral.
const Registry<std::unique_ptr<AdaptLoss>>& adapt_losses();

}  // namespace impart::share

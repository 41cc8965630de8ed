// Combiners: pure functions from several state dicts to one. Merging and federating share them.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/core/state_dict.hpp"

namespace impart::share {

/// A weighted sum of models that is being made, in double precision, so that equal models give that model
/// again.
class WeightedSum {
 public:
  explicit WeightedSum(StateLayoutPtr layout);

  /// Adds `weight` times `state`, parameters and buffers. Throws Error when the layouts differ.
  void add(const StateDict& state, double weight);
  /// The sums themselves, so that they can be added over ranks.
  [[nodiscard]] std::span<double> sums() noexcept { return sums_; }
  [[nodiscard]] std::span<const double> sums() const noexcept { return sums_; }
  [[nodiscard]] StateDict result() const;

 private:
  StateLayoutPtr layout_;
  std::vector<double> sums_;
};

/// A combiner takes models of one layout and a weight for each.
using Combiner =
    std::function<StateDict(std::span<const StateDict* const> models, std::span<const double> weights)>;

/// Arithmetic mean, whatever the weights; and the mean with the given weights, divided by their sum. Both
/// throw Error for no models, layouts that differ, or weights that are negative, not finite, or sum to zero.
StateDict average(std::span<const StateDict* const> models, std::span<const double> weights);
StateDict weighted(std::span<const StateDict* const> models, std::span<const double> weights);

/// The combiner of that name ("average", "weighted"). Throws Error (usage) that lists the known ones.
Combiner find_combiner(std::string_view name);
std::vector<std::string_view> combiner_names();

}  // namespace impart::share

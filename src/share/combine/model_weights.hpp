// ModelWeights: how much each model counts, as most ways to combine models let the deck say.
#pragma once

#include <span>
#include <vector>

#include "impart/core/settings.hpp"

namespace impart::share {

/// The settings `weight` and `normalize`.
struct ModelWeights {
  std::vector<double> weight;  ///< a number for each model; empty: 1 for all
  bool normalize = true;       ///< divided by their sum

  void read(Settings& settings);
  /// One for each of so many models: as they were given; as they were given, but divided by their sum if they
  /// are normalized; and divided by it in any case. Throw Error (usage) when there are more or fewer, or a
  /// sum of zero would be divided by.
  [[nodiscard]] std::vector<double> given(std::size_t models) const;
  [[nodiscard]] std::vector<double> applied(std::size_t models) const;
  [[nodiscard]] std::vector<double> of_mean(std::size_t models) const;
};

/// As ModelWeights reads them: one number a model, or one for all. Throws Error (usage).
std::vector<double> one_a_model(std::span<const double> values, std::size_t models, std::string_view key);

/// sums[i] += weight * values[i]: every weighted mean of models is made of this, in the models' order, so that
/// equal models give that model again.
void add_weighted(std::span<double> sums, std::span<const float> values, double weight);
/// Weighted sum of a tensor's values in the models, in double precision.
void weighted_sum(std::span<const std::span<const float>> models, std::span<const double> weights,
                  std::span<float> result);

}  // namespace impart::share

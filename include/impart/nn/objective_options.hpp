// ObjectiveOptions: the settings of all kinds of objectives side by side, for the stages that read them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "impart/nn/objective.hpp"

namespace impart::nn {

/// Losses of one row z with the target t: one-hot, or a mixture. Those of the first group are means over the
/// classes k, each of which is a problem of its own.
enum class ObjectiveKind : std::uint8_t {
  kBinaryCrossEntropy,  ///< -t log sigmoid(z) - (1 - t) log(1 - sigmoid(z)): PyTorch's BCEWithLogitsLoss
  kMeanSquaredError,    ///< (z - t)^2: MSELoss
  kL1,                  ///< |z - t|: L1Loss
  kHuber,               ///< d^2 / 2 up to |d| = delta, delta (|d| - delta / 2) beyond; d = z - t: HuberLoss
  kHinge,               ///< t max(0, 1 - z) + (1 - t) max(0, 1 + z): one support vector machine a class

  kCrossEntropy,     ///< -sum t log softmax(z): CrossEntropyLoss
  kMulticlassHinge,  ///< sum over k (not the label) of max(0, margin - z_label + z_k)^power / classes
  kKl,               ///< KL(t || softmax(z)): cross entropy less the target's entropy
};

/// Names of the kinds, in their order: "binary_cross_entropy" ...
std::span<const std::string_view> objective_names();

struct ObjectiveOptions {
  ObjectiveKind kind = ObjectiveKind::kCrossEntropy;
  /// kCrossEntropy, kKl: the target becomes (1 - s) t + s / classes (Szegedy et al. 2016, section 7). In [0,
  /// 1).
  double label_smoothing = 0;
  /// kCrossEntropy: each class's loss is multiplied by its weight, and a batch's mean divides by the sum of
  /// the labels' weights, as PyTorch does. One for each class, or empty: all 1.
  std::vector<double> class_weights = {};
  double delta = 1;   ///< kHuber, above 0
  double margin = 1;  ///< kMulticlassHinge
  int power = 1;      ///< kMulticlassHinge: 1 or 2
  /// Adds l2 / 2 times the sum of the squares of all weights (tensors of two or more extents: no biases, no
  /// scales of a normalisation) to a batch's mean loss. The training loop does so, not the Objective.
  double l2 = 0;

  friend bool operator==(const ObjectiveOptions&, const ObjectiveOptions&) = default;
};

std::unique_ptr<Objective> make_objective(const ObjectiveOptions& options);

}  // namespace impart::nn

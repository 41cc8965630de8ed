// Counts of what was predicted of which class.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace impart::metrics {

/// Counts of (label, prediction), from which F1 follows. Two of them, over different samples, add up.
class ConfusionMatrix {
 public:
  explicit ConfusionMatrix(int classes);

  void add(std::int32_t label, std::int32_t prediction);
  void merge(const ConfusionMatrix& other);  ///< REQUIRES: the same number of classes

  /// Mean over classes of 2 TP / (2 TP + FP + FN), as scikit-learn's f1_score(average="macro"); a class that
  /// neither occurs nor is predicted is left out.
  [[nodiscard]] double f1_macro() const;

 private:
  [[nodiscard]] std::int64_t at(std::size_t label, std::size_t prediction) const {
    return counts_[label * classes_ + prediction];
  }

  std::size_t classes_;
  std::vector<std::int64_t> counts_;  // (label, prediction)
};

/// The largest of a row; the first of equals.
std::int32_t argmax(std::span<const float> row);

}  // namespace impart::metrics

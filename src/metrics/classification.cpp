#include "impart/metrics/classification.hpp"

#include <algorithm>

namespace impart::metrics {

ConfusionMatrix::ConfusionMatrix(int classes)
    : classes_(static_cast<std::size_t>(classes)), counts_(classes_ * classes_) {}

void ConfusionMatrix::add(std::int32_t label, std::int32_t prediction) {
  ++counts_[static_cast<std::size_t>(label) * classes_ + static_cast<std::size_t>(prediction)];
}

void ConfusionMatrix::merge(const ConfusionMatrix& other) {
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
}

double ConfusionMatrix::f1_macro() const {
  double sum = 0;
  int present = 0;
  for (std::size_t c = 0; c < classes_; ++c) {
    std::int64_t labelled = 0;
    std::int64_t predicted = 0;
    for (std::size_t k = 0; k < classes_; ++k) {
      labelled += at(c, k);
      predicted += at(k, c);
    }
    if (labelled + predicted == 0) continue;
    ++present;
    sum += 2.0 * static_cast<double>(at(c, c)) / static_cast<double>(labelled + predicted);
  }
  return present == 0 ? 0 : sum / present;
}

std::int32_t argmax(std::span<const float> row) {
  return static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

}  // namespace impart::metrics

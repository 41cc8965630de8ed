// Softmax and divergence of one row, for whoever compares distributions.

#include <algorithm>
#include <cmath>

#include "impart/nn/objective.hpp"

namespace impart::nn {

void softmax(std::span<const float> logits, float temperature, std::span<float> probabilities) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float z : logits)
    sum += std::exp((static_cast<double>(z) - top) / static_cast<double>(temperature));
  for (std::size_t k = 0; k < logits.size(); ++k) {
    const double e = std::exp((static_cast<double>(logits[k]) - top) / static_cast<double>(temperature));
    probabilities[k] = static_cast<float>(e / sum);
  }
}

double divergence(std::span<const float> target, std::span<const float> logits, double temperature,
                  double scale, std::span<float> gradient) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float z : logits) sum += std::exp((static_cast<double>(z) - top) / temperature);
  const double log_sum = std::log(sum);
  double result = 0;
  for (std::size_t k = 0; k < logits.size(); ++k) {
    const auto p = static_cast<double>(target[k]);
    const double log_q = (static_cast<double>(logits[k]) - top) / temperature - log_sum;
    if (p > 0) result += p * (std::log(p) - log_q);  // 0 log 0 is 0
    if (!gradient.empty()) gradient[k] += static_cast<float>((std::exp(log_q) - p) / temperature * scale);
  }
  return result;
}

}  // namespace impart::nn

#include "impart/nn/objective.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "impart/core/error.hpp"
#include "impart/core/suggest.hpp"

namespace impart::nn {

namespace {

// Checks extents and labels once, so that the losses below are plain arithmetic. Returns the number of
// samples.
std::size_t checked_batch(std::span<const float> outputs, const Targets& targets, std::int64_t classes,
                          std::span<float> gradient) {
  const std::size_t n = targets.labels.size();
  const std::size_t expected = n * static_cast<std::size_t>(classes);
  if (outputs.size() != expected || (!gradient.empty() && gradient.size() != expected)) {
    throw Error("the network's output does not fit the labels")
        .expected(fmt::format("{} labels x {} classes", n, classes))
        .got(fmt::format("{} outputs, {} gradients", outputs.size(), gradient.size()));
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (targets.labels[i] < 0 || targets.labels[i] >= classes) {
      throw Error("label outside the classes")
          .expected(fmt::format("0 to {}", classes - 1))
          .got(fmt::format("{} at sample {} of the batch", targets.labels[i], i))
          .hint("check `classes` of the model against the dataset");
    }
  }
  return n;
}

class CrossEntropy final : public Objective {
 public:
  double evaluate(std::span<const float> outputs, const Targets& targets, std::int64_t classes, float scale,
                  std::span<float> gradient) const override {
    const std::size_t n = checked_batch(outputs, targets, classes, gradient);
    const auto width = static_cast<std::size_t>(classes);
    double loss = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const auto row = outputs.subspan(i * width, width);
      const auto label = static_cast<std::size_t>(targets.labels[i]);
      const double top = *std::max_element(row.begin(), row.end());
      double sum = 0;
      for (const float z : row) sum += std::exp(static_cast<double>(z) - top);
      loss += std::log(sum) + top - static_cast<double>(row[label]);
      if (gradient.empty()) continue;
      const auto grad = gradient.subspan(i * width, width);
      for (std::size_t k = 0; k < width; ++k) {
        const double p = std::exp(static_cast<double>(row[k]) - top) / sum;
        grad[k] = static_cast<float>((p - (k == label ? 1.0 : 0.0)) * static_cast<double>(scale));
      }
    }
    return loss;
  }
};

class MeanSquaredError final : public Objective {
 public:
  double evaluate(std::span<const float> outputs, const Targets& targets, std::int64_t classes, float scale,
                  std::span<float> gradient) const override {
    const std::size_t n = checked_batch(outputs, targets, classes, gradient);
    const auto width = static_cast<std::size_t>(classes);
    double loss = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const auto label = static_cast<std::size_t>(targets.labels[i]);
      double sum = 0;
      for (std::size_t k = 0; k < width; ++k) {
        const double difference = static_cast<double>(outputs[i * width + k]) - (k == label ? 1.0 : 0.0);
        sum += difference * difference;
        if (!gradient.empty()) {
          const double slope = 2.0 * difference / static_cast<double>(width);
          gradient[i * width + k] = static_cast<float>(slope * static_cast<double>(scale));
        }
      }
      loss += sum / static_cast<double>(width);
    }
    return loss;
  }
};

}  // namespace

std::unique_ptr<Objective> make_cross_entropy() { return std::make_unique<CrossEntropy>(); }
std::unique_ptr<Objective> make_mean_squared_error() { return std::make_unique<MeanSquaredError>(); }

std::unique_ptr<Objective> make_objective(std::string_view kind) {
  static constexpr std::array<std::string_view, 2> kinds{"cross_entropy", "mean_squared_error"};
  if (kind == kinds[0]) return make_cross_entropy();
  if (kind == kinds[1]) return make_mean_squared_error();
  const std::string near = suggestion(kind, kinds);
  auto error = Error(fmt::format("unknown objective \"{}\"", kind), ErrorKind::kUsage)
                   .expected(fmt::format("one of {}", fmt::join(kinds, ", ")));
  if (!near.empty()) throw std::move(error).hint(near);
  throw error;
}

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

}  // namespace impart::nn

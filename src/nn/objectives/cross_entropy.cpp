// Cross entropy: -sum t log softmax(z) of a row.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "impart/core/error.hpp"
#include "nn/objectives/objectives.hpp"
#include "nn/objectives/row_objective.hpp"

namespace impart::nn {

namespace {

class CrossEntropy final : public RowObjective {
 public:
  explicit CrossEntropy(CrossEntropyOptions options) : options_(std::move(options)) {}

  [[nodiscard]] std::string_view kind() const override { return "cross_entropy"; }
  [[nodiscard]] const CrossEntropyOptions* as_cross_entropy() const override { return &options_; }

  [[nodiscard]] double weight(const Targets& targets) const override {
    if (options_.class_weights.empty()) return Objective::weight(targets);
    double sum = 0;
    for (std::size_t i = 0; i < targets.labels.size(); ++i) {
      const auto target = target_of(targets, i);
      sum += target.share * options_.class_weights.at(target.label) +
             (1 - target.share) * options_.class_weights.at(target.other);
    }
    return sum;
  }

 private:
  [[nodiscard]] double row(std::span<const float> z, const RowTarget& target, double scale,
                           std::span<float> gradient) const override {
    const double top = *std::max_element(z.begin(), z.end());
    double sum = 0;
    for (std::size_t k = 0; k < z.size(); ++k) {
      const double e = std::exp(static_cast<double>(z[k]) - top);
      if (!gradient.empty()) gradient[k] = static_cast<float>(e);
      sum += e;
    }
    const double log_sum = std::log(sum) + top;

    const double floor = options_.label_smoothing / static_cast<double>(z.size());
    const auto wanted = [&](std::size_t k) {
      const double t = (1 - options_.label_smoothing) * target[k] + floor;
      return options_.class_weights.empty() ? t : t * options_.class_weights[k];
    };
    double loss = 0;
    double total = 0;
    for (std::size_t k = 0; k < z.size(); ++k) {
      const double t = wanted(k);
      if (t == 0) continue;  // else an infinite output of a class that nothing asks for would matter
      total += t;
      loss += t * (log_sum - static_cast<double>(z[k]));
    }
    if (gradient.empty()) return loss;
    const double part = total / sum;
    for (std::size_t k = 0; k < z.size(); ++k) {
      gradient[k] = static_cast<float>((static_cast<double>(gradient[k]) * part - wanted(k)) * scale);
    }
    return loss;
  }

  void check_classes(std::int64_t classes) const override {
    if (options_.class_weights.empty() || options_.class_weights.size() == static_cast<std::size_t>(classes))
      return;
    throw Error("the class weights do not fit the classes")
        .at("class_weights")
        .expected(fmt::format("{} weights", classes))
        .got(std::to_string(options_.class_weights.size()));
  }

  CrossEntropyOptions options_;
};

}  // namespace

std::unique_ptr<Objective> make_cross_entropy(impart::Settings& settings) {
  CrossEntropyOptions options;
  settings.read("label_smoothing", options.label_smoothing, below(0, 1),
                "the part of a target that is spread evenly over the classes");
  settings.read("class_weights", options.class_weights, above(0),
                "one for each class, by which its loss counts; none: all count the same");
  return std::make_unique<CrossEntropy>(std::move(options));
}

}  // namespace impart::nn

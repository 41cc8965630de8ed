#include "parallel/split_cross_entropy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "impart/core/error.hpp"

namespace impart::parallel {

namespace {

class SplitCrossEntropy final : public nn::Objective {
 public:
  SplitCrossEntropy(const nn::Objective& whole, nn::Part part, std::shared_ptr<TensorAxis> axis)
      : whole_(whole), options_(*whole.as_cross_entropy()), part_(part), axis_(std::move(axis)) {}

  [[nodiscard]] std::string_view kind() const override { return whole_.kind(); }
  [[nodiscard]] double weight(const nn::Targets& targets) const override { return whole_.weight(targets); }
  [[nodiscard]] const nn::Objective& on_labels() const override { return whole_; }

  double evaluate(std::span<const float> outputs, const nn::Targets& targets, std::int64_t classes,
                  float scale, std::span<float> gradient) const override {
    check(outputs, targets, classes, gradient);
    const auto rows = targets.labels.size();
    const auto width = static_cast<std::size_t>(classes);
    const auto row_of = [&](std::size_t i) { return outputs.subspan(i * width, width); };
    std::vector<double> tops(rows);
    for (std::size_t i = 0; i < rows; ++i) {
      const auto z = row_of(i);
      tops[i] = static_cast<double>(*std::max_element(z.begin(), z.end()));
    }
    axis_->max(tops);
    // Of each row: the exponentials, and the outputs, each as often as its class is wanted.
    std::vector<double> sums(2 * rows);
    for (std::size_t i = 0; i < rows; ++i) {
      const auto z = row_of(i);
      for (std::size_t k = 0; k < width; ++k) {
        sums[2 * i] += std::exp(static_cast<double>(z[k]) - tops[i]);
        const double t = wanted(targets, i, k, classes);
        if (t != 0) sums[2 * i + 1] += t * static_cast<double>(z[k]);
      }
    }
    axis_->sum(sums);
    double loss = 0;
    for (std::size_t i = 0; i < rows; ++i) {
      const double total = wanted_of_all(targets, i, classes);
      loss += total * (std::log(sums[2 * i]) + tops[i]) - sums[2 * i + 1];
      if (gradient.empty()) continue;
      const auto z = row_of(i);
      const double share = total / sums[2 * i];
      for (std::size_t k = 0; k < width; ++k) {
        const double softmax = std::exp(static_cast<double>(z[k]) - tops[i]) * share;
        gradient[i * width + k] =
            static_cast<float>((softmax - wanted(targets, i, k, classes)) * static_cast<double>(scale));
      }
    }
    return loss;
  }

 private:
  void check(std::span<const float> outputs, const nn::Targets& targets, std::int64_t classes,
             std::span<float> gradient) const {
    const auto rows = targets.labels.size();
    const auto expected = rows * static_cast<std::size_t>(classes);
    if (outputs.size() != expected || (!gradient.empty() && gradient.size() != expected)) {
      throw Error("the network's output does not fit the labels")
          .expected(fmt::format("{} labels x {} of the classes", rows, classes))
          .got(fmt::format("{} outputs, {} gradients", outputs.size(), gradient.size()));
    }
    for (const auto* labels : {&targets.labels, &targets.other_labels}) {
      for (const auto label : *labels) {
        if (label >= 0 && label < classes * part_.of) continue;
        throw Error("a label is outside the classes")
            .expected(fmt::format("0 to {}", classes * part_.of - 1))
            .got(std::to_string(label));
      }
    }
    const auto weights = options_.class_weights.size();
    if (weights != 0 && weights != static_cast<std::size_t>(classes * part_.of)) {
      throw Error("the class weights do not fit the classes")
          .expected(fmt::format("{} weights", classes * part_.of))
          .got(std::to_string(weights));
    }
  }

  [[nodiscard]] double weight_of(std::int64_t label) const {
    return options_.class_weights.empty() ? 1 : options_.class_weights[static_cast<std::size_t>(label)];
  }

  /// What row `i` wants of the class that is number `k` of this rank's.
  [[nodiscard]] double wanted(const nn::Targets& targets, std::size_t i, std::size_t k,
                              std::int64_t classes) const {
    const std::int64_t label = part_.index * classes + static_cast<std::int64_t>(k);
    const double share = targets.share.empty() ? 1 : static_cast<double>(targets.share[i]);
    double t = targets.labels[i] == label ? share : 0;
    if (share < 1 && targets.other_labels[i] == label) t += 1 - share;
    t = (1 - options_.label_smoothing) * t +
        options_.label_smoothing / static_cast<double>(classes * part_.of);
    return t * weight_of(label);
  }

  /// The same of all classes together.
  [[nodiscard]] double wanted_of_all(const nn::Targets& targets, std::size_t i, std::int64_t classes) const {
    const double share = targets.share.empty() ? 1 : static_cast<double>(targets.share[i]);
    double t = share * weight_of(targets.labels[i]);
    if (share < 1) t += (1 - share) * weight_of(targets.other_labels[i]);
    const auto& weights = options_.class_weights;
    const auto all = static_cast<double>(classes * part_.of);
    const double mean = weights.empty() ? 1 : std::accumulate(weights.begin(), weights.end(), 0.0) / all;
    return (1 - options_.label_smoothing) * t + options_.label_smoothing * mean;
  }

  const nn::Objective& whole_;
  const nn::CrossEntropyOptions& options_;
  nn::Part part_;
  std::shared_ptr<TensorAxis> axis_;
};

}  // namespace

std::unique_ptr<nn::Objective> make_split_cross_entropy(const nn::Objective& whole, nn::Part part,
                                                        std::shared_ptr<TensorAxis> axis) {
  if (whole.as_cross_entropy() == nullptr) return nullptr;
  return std::make_unique<SplitCrossEntropy>(whole, part, std::move(axis));
}

}  // namespace impart::parallel

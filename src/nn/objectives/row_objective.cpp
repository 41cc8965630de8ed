#include "nn/objectives/row_objective.hpp"

#include <fmt/format.h>

#include "impart/core/error.hpp"

namespace impart::nn {

namespace {

void check_labels(std::span<const std::int32_t> labels, std::int64_t classes) {
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0 || labels[i] >= classes) {
      throw Error("label outside the classes")
          .expected(fmt::format("0 to {}", classes - 1))
          .got(fmt::format("{} at sample {} of the batch", labels[i], i))
          .hint("check `classes` of the model against the dataset");
    }
  }
}

void check_batch(std::span<const float> outputs, const Targets& targets, std::int64_t classes,
                 std::span<float> gradient) {
  const std::size_t n = targets.labels.size();
  const std::size_t expected = n * static_cast<std::size_t>(classes);
  if (outputs.size() != expected || (!gradient.empty() && gradient.size() != expected)) {
    throw Error("the network's output does not fit the labels")
        .expected(fmt::format("{} labels x {} classes", n, classes))
        .got(fmt::format("{} outputs, {} gradients", outputs.size(), gradient.size()));
  }
  if (targets.other_labels.size() != targets.share.size() ||
      (!targets.share.empty() && targets.share.size() != n)) {
    throw Error("a mixed target needs another label and a share for each label")
        .expected(fmt::format("{} of each, or none", n))
        .got(fmt::format("{} other labels, {} shares", targets.other_labels.size(), targets.share.size()));
  }
  check_labels(targets.labels, classes);
  check_labels(targets.other_labels, classes);
}

}  // namespace

RowTarget target_of(const Targets& targets, std::size_t row) {
  const auto label = static_cast<std::size_t>(targets.labels[row]);
  if (targets.share.empty()) return {label, label, 1};
  return {label, static_cast<std::size_t>(targets.other_labels[row]),
          static_cast<double>(targets.share[row])};
}

double RowObjective::evaluate(std::span<const float> outputs, const Targets& targets, std::int64_t classes,
                              float scale, std::span<float> gradient) const {
  check_batch(outputs, targets, classes, gradient);
  check_classes(classes);
  const auto width = static_cast<std::size_t>(classes);
  double loss = 0;
  for (std::size_t i = 0; i < targets.labels.size(); ++i) {
    loss += row(outputs.subspan(i * width, width), target_of(targets, i), static_cast<double>(scale),
                gradient.empty() ? gradient : gradient.subspan(i * width, width));
  }
  return loss;
}

}  // namespace impart::nn

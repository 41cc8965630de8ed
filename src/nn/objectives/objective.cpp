#include "impart/nn/objective.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "impart/core/error.hpp"
#include "impart/core/suggest.hpp"

namespace impart::nn {

namespace {

constexpr std::array<std::string_view, 8> kNames{
    "binary_cross_entropy", "mean_squared_error", "l1", "huber", "hinge",
    "cross_entropy",        "multiclass_hinge",   "kl"};

/// What one row should give: share of `label`, and the rest of `other`.
struct RowTarget {
  std::size_t label = 0;
  std::size_t other = 0;
  double share = 1;

  [[nodiscard]] double operator[](std::size_t k) const {
    return (k == label ? share : 0.0) + (k == other ? 1 - share : 0.0);
  }
};

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

// Checks extents and labels once, so that the losses below are plain arithmetic.
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

RowTarget target_of(const Targets& targets, std::size_t row) {
  const auto label = static_cast<std::size_t>(targets.labels[row]);
  if (targets.share.empty()) return {label, label, 1};
  return {label, static_cast<std::size_t>(targets.other_labels[row]),
          static_cast<double>(targets.share[row])};
}

/// A sum over rows, each with a loss of its own.
class RowObjective : public Objective {
 public:
  double evaluate(std::span<const float> outputs, const Targets& targets, std::int64_t classes, float scale,
                  std::span<float> gradient) const final {
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

 protected:
  /// The loss of one row; writes `scale` times its gradient, unless `gradient` is empty.
  [[nodiscard]] virtual double row(std::span<const float> z, const RowTarget& target, double scale,
                                   std::span<float> gradient) const = 0;
  virtual void check_classes(std::int64_t /*classes*/) const {}
};

/// The mean over the classes of `Loss`, a function of (output, target) that returns loss and slope. A NaN
/// stays one: no comparison may lose it.
template <class Loss>
class ClassMean final : public RowObjective {
 public:
  explicit ClassMean(Loss loss) : loss_(loss) {}

 private:
  [[nodiscard]] double row(std::span<const float> z, const RowTarget& target, double scale,
                           std::span<float> gradient) const override {
    const auto width = static_cast<double>(z.size());
    double sum = 0;
    for (std::size_t k = 0; k < z.size(); ++k) {
      const auto [loss, slope] = loss_(static_cast<double>(z[k]), target[k]);
      sum += loss;
      if (!gradient.empty()) gradient[k] = static_cast<float>(slope / width * scale);
    }
    return sum / width;
  }

  Loss loss_;
};

using LossSlope = std::pair<double, double>;

LossSlope squared_error(double z, double t) { return {(z - t) * (z - t), 2 * (z - t)}; }

LossSlope absolute_error(double z, double t) {
  return {std::abs(z - t), static_cast<double>(z > t) - static_cast<double>(z < t)};
}

LossSlope binary_cross_entropy(double z, double t) {
  const double e = std::exp(-std::abs(z));  // at most 1
  const double sigmoid = z >= 0 ? 1 / (1 + e) : e / (1 + e);
  return {(z < 0 ? 0 : z) - z * t + std::log1p(e), sigmoid - t};
}

LossSlope hinge(double z, double t) {
  const double below = 1 - z <= 0 ? 0 : 1 - z;
  const double above = 1 + z <= 0 ? 0 : 1 + z;
  return {t * below + (1 - t) * above, (above > 0 ? 1 - t : 0) - (below > 0 ? t : 0)};
}

struct Huber {
  double delta;
  LossSlope operator()(double z, double t) const {
    const double d = z - t;
    if (d > delta) return {delta * (d - delta / 2), delta};
    if (d < -delta) return {delta * (-d - delta / 2), -delta};
    return {d * d / 2, d};
  }
};

template <class Loss>
std::unique_ptr<Objective> class_mean(Loss loss) {
  return std::make_unique<ClassMean<Loss>>(loss);
}

class CrossEntropy final : public RowObjective {
 public:
  explicit CrossEntropy(ObjectiveOptions options) : options_(std::move(options)) {}

  [[nodiscard]] const ObjectiveOptions* as_cross_entropy() const override { return &options_; }

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

  ObjectiveOptions options_;
};

/// Crammer and Singer 2001, as PyTorch's MultiMarginLoss.
class MulticlassHinge final : public RowObjective {
 public:
  MulticlassHinge(double margin, int power) : margin_(margin), squared_(power == 2) {}

 private:
  [[nodiscard]] double row(std::span<const float> z, const RowTarget& target, double scale,
                           std::span<float> gradient) const override {
    std::fill(gradient.begin(), gradient.end(), 0.0F);
    double loss = against(z, target.label, target.share, scale, gradient);
    if (target.share < 1) loss += against(z, target.other, 1 - target.share, scale, gradient);
    return loss;
  }

  [[nodiscard]] double against(std::span<const float> z, std::size_t label, double share, double scale,
                               std::span<float> gradient) const {
    const double part = share / static_cast<double>(z.size());
    double loss = 0;
    double slopes = 0;
    for (std::size_t k = 0; k < z.size(); ++k) {
      const double short_by = margin_ - static_cast<double>(z[label]) + static_cast<double>(z[k]);
      if (k == label || short_by <= 0) continue;
      loss += squared_ ? short_by * short_by : short_by;
      const double slope = (squared_ ? 2 * short_by : 1.0) * part * scale;
      slopes += slope;
      if (!gradient.empty()) gradient[k] += static_cast<float>(slope);
    }
    if (!gradient.empty()) gradient[label] -= static_cast<float>(slopes);
    return loss * part;
  }

  double margin_;
  bool squared_;
};

class Kl final : public RowObjective {
 public:
  explicit Kl(double smoothing) : smoothing_(smoothing) {}

 private:
  [[nodiscard]] double row(std::span<const float> z, const RowTarget& target, double scale,
                           std::span<float> gradient) const override {
    std::vector<float> wanted(z.size());
    for (std::size_t k = 0; k < z.size(); ++k) {
      wanted[k] =
          static_cast<float>((1 - smoothing_) * target[k] + smoothing_ / static_cast<double>(z.size()));
    }
    std::fill(gradient.begin(), gradient.end(), 0.0F);
    return divergence(wanted, z, 1.0, scale, gradient);
  }

  double smoothing_;
};

}  // namespace

std::span<const std::string_view> objective_names() { return kNames; }

std::unique_ptr<Objective> make_objective(const ObjectiveOptions& options) {
  switch (options.kind) {
    case ObjectiveKind::kBinaryCrossEntropy:
      return class_mean(&binary_cross_entropy);
    case ObjectiveKind::kMeanSquaredError:
      return class_mean(&squared_error);
    case ObjectiveKind::kL1:
      return class_mean(&absolute_error);
    case ObjectiveKind::kHuber:
      return class_mean(Huber{options.delta});
    case ObjectiveKind::kHinge:
      return class_mean(&hinge);
    case ObjectiveKind::kCrossEntropy:
      return std::make_unique<CrossEntropy>(options);
    case ObjectiveKind::kMulticlassHinge:
      return std::make_unique<MulticlassHinge>(options.margin, options.power);
    case ObjectiveKind::kKl:
      return std::make_unique<Kl>(options.label_smoothing);
  }
  throw Error("unknown objective", ErrorKind::kUsage);
}

std::unique_ptr<Objective> make_objective(std::string_view kind) {
  const auto found = std::ranges::find(kNames, kind);
  if (found != kNames.end()) {
    return make_objective({.kind = static_cast<ObjectiveKind>(found - kNames.begin())});
  }
  const std::string near = suggestion(kind, kNames);
  auto error = Error(fmt::format("unknown objective \"{}\"", kind), ErrorKind::kUsage)
                   .expected(fmt::format("one of {}", fmt::join(kNames, ", ")));
  if (!near.empty()) throw std::move(error).hint(near);
  throw error;
}

std::unique_ptr<Objective> make_cross_entropy() { return make_objective(ObjectiveOptions{}); }
std::unique_ptr<Objective> make_mean_squared_error() {
  return make_objective({.kind = ObjectiveKind::kMeanSquaredError});
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

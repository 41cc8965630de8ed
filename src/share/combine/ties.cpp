// ties: task vectors without what is small or in dispute. "TIES-Merging: resolving interference when merging
// models" (Yadav et al. 2023, algorithm 1), with mergekit's settings.
//
// Of each model's task vector, its difference from the base, only the `density` largest magnitudes of all
// parameters together are kept. At each place, the sum of what the models have kept, each times its weight,
// elects a sign; the models that have that sign are averaged, and base + lambda times that is the result.
// - What equals the smallest magnitude that is kept is kept, too: so the choice does not depend on an order.
//   Magnitudes are compared as float32, as the authors' code does.
// - Where the sum is zero, the sign is the one that more places have than the other, as in the authors' code
//   (mergekit takes plus); when they are equally many, the base stays.
// - Buffers have no task vector: they get the models' weighted mean.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "impart/core/error.hpp"
#include "share/combine/kinds.hpp"
#include "share/combine/model_weights.hpp"

namespace impart::share {

namespace {

/// Ordered as the magnitudes themselves: the bits of a float without its sign. 0 only of zero.
using Magnitude = std::uint32_t;

double difference(float value, float base) { return static_cast<double>(value) - static_cast<double>(base); }

Magnitude magnitude_of(double difference) {
  return std::bit_cast<Magnitude>(static_cast<float>(difference)) & 0x7FFFFFFFU;
}

/// How many values of `size` are kept; at least one.
std::int64_t kept(double density, std::int64_t size) {
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(density * static_cast<double>(size)));
}

/// Finds the `rank`-th largest magnitude of a model from counts, exactly and in little memory: first those of
/// the upper half of the bits, then, among the magnitudes that have the same upper half, of the lower half.
class RadixSelect {
 public:
  static constexpr std::size_t kCounts = 1 << 16;
  static constexpr int kPasses = 2;

  explicit RadixSelect(std::int64_t rank) : rank_(rank) {}

  void count(Magnitude magnitude, std::span<double> counts) const {
    if (pass_ == 0) {
      ++counts[magnitude >> 16];
    } else if (magnitude >> 16 == found_ >> 16) {
      ++counts[magnitude & 0xFFFFU];
    }
  }
  void counted(std::span<const double> counts) {
    auto digit = static_cast<Magnitude>(kCounts - 1);
    for (; static_cast<double>(rank_) > counts[digit]; --digit) rank_ -= std::llround(counts[digit]);
    found_ |= pass_++ == 0 ? digit << 16 : digit;
  }
  [[nodiscard]] Magnitude found() const noexcept { return found_; }

 private:
  std::int64_t rank_;  // 1: the largest
  Magnitude found_ = 0;
  int pass_ = 0;
};

class Ties final : public Combiner {
 public:
  explicit Ties(Settings& settings) {
    weights_.read(settings);
    settings.read("density", density_, above_up_to(0, 1),
                  "part of a task vector that is kept: one for all models, or one for each");
    settings.read("lambda", lambda_, any_number(),
                  "times the merged task vector, before it is added to the base");
    settings.read("trim_per_tensor", trim_per_tensor_,
                  "keep that part of each tensor, instead of all parameters together");
  }

  [[nodiscard]] CombinerNeeds needs() const override { return {.base = true}; }

  void begin(const StateLayout& layout, std::size_t models) override {
    weight_ = weights_.given(models);
    buffer_weight_ = weights_.of_mean(models);
    densities_ = one_a_model(density_, models, "density");
    selections_.clear();
    for (const double density : densities_) selections_.emplace_back(kept(density, layout.parameter_count()));
    const bool all = std::ranges::all_of(densities_, [](double density) { return density == 1; });
    phase_ = trim_per_tensor_ || all || layout.parameter_count() == 0 ? kElecting : 0;
  }

  [[nodiscard]] std::size_t measures() const override {
    if (phase_ < kElecting) return selections_.size() * RadixSelect::kCounts;
    return phase_ == kElecting ? 1 : 0;
  }

  void measure(const TensorOfModels& tensor, std::span<double> sums) const override {
    if (tensor.entry.kind == StateKind::kBuffer) return;
    if (phase_ == kElecting) {
      elect(tensor, sums[0]);
      return;
    }
    for (std::size_t m = 0; m < tensor.models.size(); ++m) {
      const auto counts = sums.subspan(m * RadixSelect::kCounts, RadixSelect::kCounts);
      for (std::size_t i = 0; i < tensor.base.size(); ++i)
        selections_[m].count(magnitude_of(difference(tensor.models[m][i], tensor.base[i])), counts);
    }
  }

  void measured(std::span<const double> sums) override {
    if (phase_ == kElecting) {
      majority_ = sums[0];
    } else {
      for (std::size_t m = 0; m < selections_.size(); ++m)
        selections_[m].counted(sums.subspan(m * RadixSelect::kCounts, RadixSelect::kCounts));
    }
    ++phase_;
  }

  void combine(const TensorOfModels& tensor, std::span<float> result) const override {
    if (tensor.entry.kind == StateKind::kBuffer) {
      weighted_sum(tensor.models, buffer_weight_, result);
      return;
    }
    const auto smallest = smallest_kept(tensor);
    for (std::size_t i = 0; i < result.size(); ++i) {
      const double sum = elected_sum(tensor, smallest, i);
      const double sign = sum != 0 ? sum : majority_;
      result[i] = static_cast<float>(static_cast<double>(tensor.base[i]) +
                                     lambda_ * disjoint_mean(tensor, smallest, i, sign));
    }
  }

 private:
  static constexpr int kElecting = RadixSelect::kPasses;

  /// Of each model, of this tensor.
  [[nodiscard]] std::vector<Magnitude> smallest_kept(const TensorOfModels& tensor) const {
    std::vector<Magnitude> smallest;
    std::vector<Magnitude> magnitudes(trim_per_tensor_ ? tensor.base.size() : 0);
    for (std::size_t m = 0; m < tensor.models.size(); ++m) {
      if (densities_[m] == 1 || tensor.base.empty()) {
        smallest.push_back(0);
      } else if (trim_per_tensor_) {
        std::ranges::transform(tensor.models[m], tensor.base, magnitudes.begin(),
                               [](float value, float base) { return magnitude_of(difference(value, base)); });
        const auto last = magnitudes.begin() + kept(densities_[m], std::ssize(magnitudes)) - 1;
        std::ranges::nth_element(magnitudes, last, std::ranges::greater());
        smallest.push_back(*last);
      } else {
        smallest.push_back(selections_[m].found());
      }
    }
    return smallest;
  }

  /// What model `m` has kept at place `i`; else 0.
  static double trimmed(const TensorOfModels& tensor, std::span<const Magnitude> smallest, std::size_t m,
                        std::size_t i) {
    const double task = difference(tensor.models[m][i], tensor.base[i]);
    return magnitude_of(task) >= smallest[m] ? task : 0;
  }

  [[nodiscard]] double elected_sum(const TensorOfModels& tensor, std::span<const Magnitude> smallest,
                                   std::size_t i) const {
    double sum = 0;
    for (std::size_t m = 0; m < tensor.models.size(); ++m)
      sum += weight_[m] * trimmed(tensor, smallest, m, i);
    return sum;
  }

  /// Over the models that have kept something of that sign; 0 when there are none, or `sign` is 0.
  [[nodiscard]] double disjoint_mean(const TensorOfModels& tensor, std::span<const Magnitude> smallest,
                                     std::size_t i, double sign) const {
    double sum = 0;
    double weights = 0;
    for (std::size_t m = 0; m < tensor.models.size(); ++m) {
      const double task = trimmed(tensor, smallest, m, i);
      if (!(task * sign > 0)) continue;
      sum += weight_[m] * task;
      weights += weight_[m];
    }
    return weights_.normalize && weights > 0 ? sum / weights : sum;
  }

  /// Adds, to the places that elect plus, less those that elect minus, those of this tensor.
  void elect(const TensorOfModels& tensor, double& majority) const {
    const auto smallest = smallest_kept(tensor);
    for (std::size_t i = 0; i < tensor.base.size(); ++i) {
      const double sum = elected_sum(tensor, smallest, i);
      if (!std::isfinite(sum)) throw Error("a value is not finite").at(tensor.entry.name);
      majority += (sum > 0 ? 1 : 0) - (sum < 0 ? 1 : 0);
    }
  }

  ModelWeights weights_;
  std::vector<double> density_{1.0};
  double lambda_ = 1;
  bool trim_per_tensor_ = false;

  // Of one combination.
  std::vector<double> weight_;
  std::vector<double> buffer_weight_;  // of a mean
  std::vector<double> densities_;
  std::vector<RadixSelect> selections_;
  double majority_ = 0;
  int phase_ = 0;  // passes that are over
};

}  // namespace

std::unique_ptr<Combiner> make_ties(Settings& settings) { return std::make_unique<Ties>(settings); }

}  // namespace impart::share

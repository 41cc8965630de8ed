// Objective: the loss of one batch and its gradient with respect to the network's output.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "impart/core/registry.hpp"
#include "impart/core/setting_value.hpp"

namespace impart::nn {

/// What the samples of a batch should give. A sample has one label, or, of a sequence, several in a row: R
/// labels in all, one for each row of the outputs.
struct Targets {
  std::span<const std::int32_t> labels;      ///< (R), 0 to classes-1
  std::span<const std::uint64_t> rows = {};  ///< (N), positions in the dataset, for tables kept beside it
  /// (R), or both empty. With them, what a row should give is a mixture: share * one_hot(label) + (1 - share)
  /// * one_hot(other label) (mixup, Zhang et al. 2018; cutmix, Yun et al. 2019).
  std::span<const std::int32_t> other_labels = {};
  std::span<const float> share = {};  ///< in [0, 1]
};

/// What a cross entropy asks of the classes.
struct CrossEntropyOptions {
  /// The target becomes (1 - s) t + s / classes (Szegedy et al. 2016, section 7). In [0, 1).
  double label_smoothing = 0;
  /// Each class's loss is multiplied by its weight, and a batch's mean divides by the sum of the labels'
  /// weights, as PyTorch does. One for each class, or empty: all 1.
  std::vector<double> class_weights = {};
};

/// A loss. Pure: one object may serve several threads.
class Objective {
 public:
  virtual ~Objective() = default;

  /// `outputs`: (R, classes). Returns the sum (not the mean) of the rows' losses, and writes `scale` times
  /// the sum's gradient to `gradient` (R, classes), unless that is empty. The caller gives 1 / (rows of the
  /// global batch) as `scale`. Throws Error when extents don't fit, or on a label outside the classes.
  virtual double evaluate(std::span<const float> outputs, const Targets& targets, std::int64_t classes,
                          float scale, std::span<float> gradient) const = 0;
  /// What the sum over a batch is divided by to have its mean: the number of labels, or the sum of their
  /// weights.
  [[nodiscard]] virtual double weight(const Targets& targets) const {
    return static_cast<double>(targets.labels.size());
  }
  /// Its name, in objectives() or another table of losses.
  [[nodiscard]] virtual std::string_view kind() const = 0;
  /// False when its slope jumps somewhere, which methods that measure curvature cannot take.
  [[nodiscard]] virtual bool is_smooth() const { return true; }
  /// The settings, when this is a cross entropy on labels, which can be had from parts of the classes; else
  /// null.
  [[nodiscard]] virtual const CrossEntropyOptions* as_cross_entropy() const { return nullptr; }
  /// The part that needs nothing but labels, for data of which nothing else is known.
  [[nodiscard]] virtual const Objective& on_labels() const { return *this; }
};

/// Losses of one row z of outputs with the target t, one-hot or a mixture, by name.
const Registry<std::unique_ptr<Objective>>& objectives();

/// The objective of a table { kind, its settings }; cross entropy without a kind. Throws Error (usage) for
/// what is not in objectives(), or does not read it.
std::unique_ptr<Objective> make_objective(const SettingTable& settings);
/// By name, with its defaults. Throws Error (usage) for another word.
std::unique_ptr<Objective> make_objective(std::string_view kind);
std::unique_ptr<Objective> make_cross_entropy();
std::unique_ptr<Objective> make_mean_squared_error();

/// Softmax of one row at a temperature: softmax(logits / temperature), computed without overflow.
void softmax(std::span<const float> logits, float temperature, std::span<float> probabilities);

/// KL(target || softmax(logits / temperature)) of one row; adds `scale` times its gradient by the logits to
/// `gradient`, unless that is empty. `target` sums to 1.
double divergence(std::span<const float> target, std::span<const float> logits, double temperature,
                  double scale, std::span<float> gradient);

}  // namespace impart::nn

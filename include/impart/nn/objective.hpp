// Objective: the loss of one batch and its gradient with respect to the network's output.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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

struct ObjectiveOptions;

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
  /// The settings, when this is a cross entropy on labels, which can be had from parts of the classes; else
  /// null.
  [[nodiscard]] virtual const ObjectiveOptions* as_cross_entropy() const { return nullptr; }
  /// The part that needs nothing but labels, for data of which nothing else is known.
  [[nodiscard]] virtual const Objective& on_labels() const { return *this; }
};

/// Losses of one row z with the target t: one-hot, or a mixture. Those of the first group are means over the
/// classes k, each of which is a problem of its own.
enum class ObjectiveKind : std::uint8_t {
  kBinaryCrossEntropy,  ///< -t log sigmoid(z) - (1 - t) log(1 - sigmoid(z)): PyTorch's BCEWithLogitsLoss
  kMeanSquaredError,    ///< (z - t)^2: MSELoss
  kL1,                  ///< |z - t|: L1Loss
  kHuber,               ///< d^2 / 2 up to |d| = delta, delta (|d| - delta / 2) beyond; d = z - t: HuberLoss
  kHinge,               ///< t max(0, 1 - z) + (1 - t) max(0, 1 + z): one support vector machine a class

  kCrossEntropy,     ///< -sum t log softmax(z): CrossEntropyLoss
  kMulticlassHinge,  ///< sum over k (not the label) of max(0, margin - z_label + z_k)^power / classes
  kKl,               ///< KL(t || softmax(z)): cross entropy less the target's entropy
};

/// Names of the kinds, in their order: "binary_cross_entropy" ...
std::span<const std::string_view> objective_names();

struct ObjectiveOptions {
  ObjectiveKind kind = ObjectiveKind::kCrossEntropy;
  /// kCrossEntropy, kKl: the target becomes (1 - s) t + s / classes (Szegedy et al. 2016, section 7). In [0,
  /// 1).
  double label_smoothing = 0;
  /// kCrossEntropy: each class's loss is multiplied by its weight, and a batch's mean divides by the sum of
  /// the labels' weights, as PyTorch does. One for each class, or empty: all 1.
  std::vector<double> class_weights = {};
  double delta = 1;   ///< kHuber, above 0
  double margin = 1;  ///< kMulticlassHinge
  int power = 1;      ///< kMulticlassHinge: 1 or 2
  /// Adds l2 / 2 times the sum of the squares of all weights (tensors of two or more extents: no biases, no
  /// scales of a normalisation) to a batch's mean loss. The training loop does so, not the Objective.
  double l2 = 0;

  friend bool operator==(const ObjectiveOptions&, const ObjectiveOptions&) = default;
};

std::unique_ptr<Objective> make_objective(const ObjectiveOptions& options);
/// By name, with the options' defaults. Throws Error (usage) for another word.
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

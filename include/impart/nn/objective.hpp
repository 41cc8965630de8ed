// Objective: the loss of one batch and its gradient with respect to the network's output, or to more of what
// the network computes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "impart/core/registry.hpp"
#include "impart/core/setting_value.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/nn/layer.hpp"

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

/// What an objective needs beside the outputs and labels of one stream of data: what a trainer must provide,
/// and what others must know that cannot.
struct ObjectiveNeeds {
  /// Layers whose outputs it reads, as NetworkOptions::taps.
  std::vector<std::string> taps = {};
  /// Tensors of its own, by their full names ("hint.projection.weight"), which no model's layer has. They are
  /// trained with the model's, and are no part of the model that is left.
  std::vector<ParameterSpec> parts = {};
  int streams = 1;           ///< of data, each with a domain of its own; an epoch is one of the first
  bool whole_shard = false;  ///< has statistics over samples: only a whole shard at once makes sense
  bool rows = false;         ///< reads Targets::rows, and tables that are kept beside the dataset

  /// Outputs and labels alone, or tables beside them.
  [[nodiscard]] bool is_plain() const noexcept {
    return taps.empty() && parts.empty() && streams == 1 && !whole_shard;
  }
};

/// The output of a tapped layer for one stream's samples of a shard, as layers have it: (N, H, W, C), (N, F)
/// or (N, T, F).
struct Tapped {
  std::span<const float> values;
  /// d(loss)/d(values), zeros at first, to be added to; empty: not needed.
  std::span<float> gradient;
};

/// One stream's samples of a shard, and what the network makes of them.
struct StreamView {
  std::int64_t samples = 0;
  Targets targets;                            ///< no labels: the stream has none
  std::span<const float> inputs;              ///< (N, input shape), row-major
  std::span<const std::uint64_t> sample_ids;  ///< (N)
  std::span<const float> outputs;             ///< (R, classes)
  std::span<float> gradient;                  ///< of the outputs, zeros at first
  std::span<const Tapped> taps;               ///< of each of ObjectiveNeeds::taps
};

/// One shard, as an objective with a worker sees it. The network has computed all streams' samples as one
/// batch, the first stream's in front. The first stream has samples; a further one as many as its own batch
/// gives a shard.
struct ShardView {
  std::span<const StreamView> streams;
  std::int64_t classes = 0;
  float scale = 1;  ///< factor of all gradients, those of parts, too
  Pass pass;        ///< `sample_ids` are of all streams
  /// Of ObjectiveNeeds::parts, zeros at first. Of a buffer it is the change, as Layer::backward gives it.
  /// Null: there are no parts.
  StateDict* part_gradients = nullptr;
};

/// What an objective has for each thread: scratch memory, networks of its parts.
class ObjectiveWorker {
 public:
  virtual ~ObjectiveWorker() = default;
  /// Values, of the model and of the parts, have changed. `state` outlives the calls of `evaluate` that
  /// follow.
  virtual void load(const StateDict& /*state*/) {}
  /// The sum of the losses of the first stream's rows, as Objective::evaluate returns it. A value that
  /// belongs to the shard rather than to rows counts Objective::weight times, so that a batch's loss has the
  /// mean over its shards; and so does its gradient.
  virtual double evaluate(const ShardView& shard) = 0;
};

/// A loss. One object may serve several threads: it has no state but what its workers have.
class Objective {
 public:
  virtual ~Objective() = default;

  [[nodiscard]] virtual ObjectiveNeeds needs() const { return {}; }
  /// What computes this loss in a thread; it may borrow this object. Null: `evaluate` does, and there is
  /// nothing more to it.
  [[nodiscard]] virtual std::unique_ptr<ObjectiveWorker> worker() const { return nullptr; }

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

/// A loss on the first stream's labels, and something beside it that a worker computes. Of data of which
/// nothing else is known, it is the loss on labels alone.
class JointObjective : public Objective {
 public:
  explicit JointObjective(std::unique_ptr<Objective> labels) : labels_(std::move(labels)) {}

  double evaluate(std::span<const float> outputs, const Targets& targets, std::int64_t classes, float scale,
                  std::span<float> gradient) const final {
    return labels_->evaluate(outputs, targets, classes, scale, gradient);
  }
  [[nodiscard]] double weight(const Targets& targets) const final { return labels_->weight(targets); }
  [[nodiscard]] const Objective& on_labels() const final { return labels_->on_labels(); }

  /// `factor` times the loss on labels, and its gradient.
  double on_labels(const ShardView& shard, double factor) const;

 private:
  std::unique_ptr<Objective> labels_;
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

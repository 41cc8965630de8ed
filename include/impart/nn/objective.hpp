// Objective: the loss of one batch and its gradient with respect to the network's output.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace impart::nn {

/// What the samples of a batch should give.
struct Targets {
  std::span<const std::int32_t> labels;      ///< (N), 0 to classes-1
  std::span<const std::uint64_t> rows = {};  ///< (N), positions in the dataset, for tables kept beside it
};

/// A loss. Pure: one object may serve several threads.
class Objective {
 public:
  virtual ~Objective() = default;

  /// `outputs`: (N, classes). Returns the sum (not the mean) of the samples' losses, and writes `scale` times
  /// the sum's gradient to `gradient` (N, classes), unless that is empty. The caller gives 1 / (global batch)
  /// as `scale`.
  virtual double evaluate(std::span<const float> outputs, const Targets& targets, std::int64_t classes,
                          float scale, std::span<float> gradient) const = 0;
};

/// -log softmax(outputs)[label].
std::unique_ptr<Objective> make_cross_entropy();
/// Mean over classes of (output - one_hot(label))^2, as PyTorch's MSELoss does for each sample.
std::unique_ptr<Objective> make_mean_squared_error();
/// "cross_entropy" or "mean_squared_error". Throws Error (usage) for another word.
std::unique_ptr<Objective> make_objective(std::string_view kind);

/// Softmax of one row at a temperature: softmax(logits / temperature), computed without overflow.
void softmax(std::span<const float> logits, float temperature, std::span<float> probabilities);

}  // namespace impart::nn

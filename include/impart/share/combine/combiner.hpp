// Combiners: what makes one model of several. Merging reads them from files, federating from its clients.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "impart/core/registry.hpp"
#include "impart/core/state_dict.hpp"

namespace impart::share {

/// What a combiner cannot do without, beside the models: checked before a run, and again by `combine`.
struct CombinerNeeds {
  std::size_t models = 1;  ///< at least so many
  bool base = false;       ///< the model that all of them were trained from
  bool data = false;       ///< samples
  bool statistics =
      false;          ///< what was measured on each model's own data: a Fisher information, Gram matrices
  bool seed = false;  ///< it draws random numbers
};

/// One tensor in all the models.
struct TensorOfModels {
  const StateEntry& entry;                         ///< name, shape and kind
  std::span<const std::span<const float>> models;  ///< its values in each, row-major, in the models' order
  std::span<const float> base;                     ///< in the base; empty without one
};

/// A way to combine models, with its settings. It works on one tensor at a time, in two phases: first it may
/// measure, over all tensors and as often as it needs to; then it combines. So models may be larger than
/// memory, and ranks may share the tensors. `share::combine` calls:
///
///   begin; then, while measures() > 0: measure for each tensor, measured with the sums; then combine for each.
///
/// Ranks begin together and are given the same sums, so each comes to the same state; `measure` and `combine`
/// change nothing, and their results depend on nothing but that state and the tensor.
class Combiner {
 public:
  virtual ~Combiner() = default;

  [[nodiscard]] virtual CombinerNeeds needs() const { return {}; }
  /// Forgets what was measured before. Reads no values, so that a check before a run calls it, too. Throws
  /// Error (usage) when the settings do not fit so many models, or such tensors.
  virtual void begin(const StateLayout& layout, std::size_t models) = 0;

  /// How many numbers the next pass over all tensors sums; 0: nothing is left to measure.
  [[nodiscard]] virtual std::size_t measures() const { return 0; }
  /// Adds what it finds in a tensor. `sums`: measures() numbers. They are added over the tensors in one order,
  /// whatever the number of ranks.
  virtual void measure(const TensorOfModels& tensor, std::span<double> sums) const;
  /// Takes the sums over all tensors, which end the pass.
  virtual void measured(std::span<const double> sums);

  /// Fills `result`, as large as the tensor.
  virtual void combine(const TensorOfModels& tensor, std::span<float> result) const = 0;
};

/// All of them, by name. Each reads its own settings.
const Registry<std::unique_ptr<Combiner>>& combiners();

/// What a method that is gone is now: "average" is `linear`. Empty when there never was one of that name.
std::string_view combiner_successor(std::string_view name);

}  // namespace impart::share

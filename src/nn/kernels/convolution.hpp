// Convolutions of a batch: the three directions, who can compute them, and the rule that chooses.
//
// All work on channels-last images: x and grad_x (N, H, W, C), y and grad_y (N, OH, OW, O); weights and their
// gradients are (O, C / groups, K, K) row-major.
//
// What every candidate keeps, so that results do not depend on how many shards are computed at once:
// - the output for a sample has the same bits whatever `batch` and `shards` are, as long as a shard has the
//   same number of samples;
// - a gradient of weights is, for each shard, the sum over its samples, and those sums are added in
//   sum_shards' tree, ((s0 + s1) + (s2 + s3)) + ...: the bits of shards computed alone and added later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "impart/nn/layer.hpp"
#include "nn/kernels/geometry.hpp"

namespace impart::nn {

/// What all directions share. Memory for the time of one `run` comes from the Scratch given to the factory.
class ConvKernel {
 public:
  virtual ~ConvKernel() = default;
  /// Bytes at the start of the scratch that `run` may use; the caller's own temporary values go behind them.
  [[nodiscard]] virtual std::size_t scratch_bytes() const = 0;
};

class ConvForward : public ConvKernel {
 public:
  /// To be called when values have changed. `bias` (O) is null when the options say so. Both stay valid until
  /// the next call.
  virtual void load(const float* weight, const float* bias) = 0;
  virtual void run(const float* x, float* y) = 0;
};

class ConvBackwardData : public ConvKernel {
 public:
  /// As ConvForward::load.
  virtual void load(const float* weight) = 0;
  /// Writes all of grad_x, or adds to it.
  virtual void run(const float* grad_y, float* grad_x, bool add) = 0;
};

class ConvBackwardWeights : public ConvKernel {
 public:
  /// Writes both gradients; grad_bias (O) is null when the options say so.
  virtual void run(const float* x, const float* grad_y, float* grad_weight, float* grad_bias) = 0;
};

/// What is computed beside the products.
struct ConvOptions {
  bool bias = false;  ///< forward: added; weights: its gradient is wanted
  bool relu = false;  ///< forward: rectifies, NaN stays NaN
};

enum class ConvDirection : std::uint8_t { kForward, kData, kWeights };

/// One way to compute convolutions. The factories throw Error when memory or a library fails.
struct ConvCandidate {
  std::string_view name;
  /// Whether it can compute this one here. Depends on the shape of a sample, the weights and the instruction
  /// set, never on batch or shards.
  bool (*serves)(const ConvGeometry& g, ConvDirection direction);
  /// Whether, where it serves, it is faster than those after it in the table, as bench_convolution measured.
  bool (*wins)(const ConvGeometry& g, ConvDirection direction);
  std::unique_ptr<ConvForward> (*forward)(const ConvGeometry& g, const ConvOptions& options,
                                          Scratch& scratch);
  std::unique_ptr<ConvBackwardData> (*data)(const ConvGeometry& g, const ConvOptions& options,
                                            Scratch& scratch);
  std::unique_ptr<ConvBackwardWeights> (*weights)(const ConvGeometry& g, const ConvOptions& options,
                                                  Scratch& scratch);
};

/// All candidates; the last one serves everything.
std::span<const ConvCandidate> conv_candidates();

/// The candidate for this shape and direction: the one named, or, when `name` is empty, the one that
/// use_wisdom has brought, or else the first that serves and wins. That is a fixed rule: two runs on machines
/// with the same instruction set choose alike. Throws Error (usage) when there is none of that name, or it
/// does not serve.
const ConvCandidate& choose_convolution(const ConvGeometry& g, ConvDirection direction,
                                        std::string_view name = {});

/// The gradient of the bias (O): for each shard the sum of grad_y over its pixels, summed in the tree.
/// `partial` has ShardTree::partial_floats(g.shards, g.filters).
void sum_bias_gradient(const ConvGeometry& g, const float* grad_y, float* partial, float* grad_bias);

}  // namespace impart::nn

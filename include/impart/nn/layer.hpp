// Layer: one differentiable step of a network, for a fixed batch shape.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "impart/core/state_dict.hpp"
#include "impart/core/tensor.hpp"
#include "impart/nn/spec.hpp"

namespace impart::nn {

/// How the values of an activation of shape (N, C, H, W) lie in memory. Activations of other ranks are always kRows.
enum class Layout : std::uint8_t {
  kRows,          ///< row-major in the order of the shape
  kChannelsLast,  ///< N, H, W, C
};

/// Where an initial value comes from. Weights draw from Rng(seed, "init", name_id(full name)).
enum class Init : std::uint8_t {
  kHe,      ///< normal, variance 2 / fan_in (He et al. 2015, eq. 10)
  kGlorot,  ///< uniform on +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16)
  kZeros,
  kOnes,
};

struct ParameterSpec {
  std::string name;  ///< within the layer: "weight"
  Shape shape;
  StateKind kind = StateKind::kParameter;
  Init init = Init::kZeros;
  std::int64_t fan_in = 1;
  std::int64_t fan_out = 1;
};

/// What a forward or backward pass is for.
struct Pass {
  bool training = false;
  std::uint64_t seed = 0;
  std::uint64_t step = 0;                       ///< keys random masks, with the sample's id
  std::span<const std::uint64_t> sample_ids;    ///< (N); needed when training
};

/// One layer of a network. A Network owns it, sets it up once for a batch size, and then only executes.
/// Not for use by several threads at once: each thread has a Network of its own.
class Layer {
 public:
  virtual ~Layer() = default;

  /// Shape of one sample's output. Throws Error when `input` (one sample's shape) does not fit.
  [[nodiscard]] virtual Shape output_shape(const Shape& input) const = 0;
  /// The tensors this layer needs for that input.
  [[nodiscard]] virtual std::vector<ParameterSpec> parameters(const Shape& input) const;
  /// Builds everything that depends on shapes. `input` has the batch extent in front: (N, ...). Returns the layout of
  /// the output. With `need_input_gradient` false, backward is never asked for a gradient with respect to the input.
  virtual Layout setup(const Shape& input, Layout layout, bool need_input_gradient) = 0;
  /// True when the layer can apply the rectifier to its output by itself; from then on it does, forward and backward.
  virtual bool absorb_relu() { return false; }
  /// True when output and input may be the same memory, in both directions.
  [[nodiscard]] virtual bool in_place() const { return false; }
  /// Values have changed: pack them as the kernels want them. `state` is in the order of `parameters`, and stays
  /// valid and unchanged until the next call.
  virtual void load(std::span<const std::span<const float>> state);
  virtual void forward(const Pass& pass, std::span<const float> input, std::span<float> output) = 0;
  /// From d(loss)/d(output) to d(loss)/d(input) (empty when not needed) and d(loss)/d(parameters), which is written
  /// (not added), in the order of `parameters`; all spans of `gradients` are empty when the layer is frozen. For a
  /// buffer the "gradient" is the change of its running value that this batch asks for. May overwrite `grad_output`.
  virtual void backward(const Pass& pass, std::span<const float> input, std::span<const float> output,
                        std::span<float> grad_output, std::span<float> grad_input,
                        std::span<const std::span<float>> gradients) = 0;
};

/// Makes a layer from its spec. Throws Error (usage) for an unknown kind or setting (with the nearest known one), a
/// missing one, or a value out of range.
std::unique_ptr<Layer> make_layer(const LayerSpec& spec);

/// The kinds that `make_layer` knows.
std::vector<std::string_view> layer_kinds();

}  // namespace impart::nn

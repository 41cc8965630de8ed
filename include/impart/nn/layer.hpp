// Layer: one differentiable step of a network, for a fixed batch shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "impart/core/aligned.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/core/tensor.hpp"
#include "impart/nn/spec.hpp"

namespace impart::nn {

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
  std::uint64_t step = 0;                          ///< keys random masks, with the sample's id
  std::span<const std::uint64_t> sample_ids = {};  ///< (N); needed when training
};

/// Working memory that the layers of one network share. A layer reserves what it needs in `setup`, and may
/// use it within one call of `forward` or `backward`; nothing in it outlives the call.
class Scratch {
 public:
  void reserve(std::size_t bytes) { bytes_ = bytes > bytes_ ? bytes : bytes_; }
  /// After the last `setup`: makes the memory, once for all layers.
  void allocate() { memory_ = AlignedBuffer<std::byte>(bytes_); }

  [[nodiscard]] std::byte* data() noexcept { return memory_.data(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::size_t bytes_ = 0;
  AlignedBuffer<std::byte> memory_;
};

/// What a layer is built for.
struct Setup {
  Shape input;                       ///< with the batch extent in front: (N, ...)
  bool training = false;             ///< backward will be called
  bool trainable = true;             ///< false: frozen; backward is not asked for gradients of its parameters
  bool need_input_gradient = false;  ///< backward is asked for the gradient with respect to the input
  bool tail = false;                 ///< as NetworkOptions::tail
  Scratch* scratch = nullptr;        ///< outlives the layer
};

/// One layer of a network. A Network owns it, sets it up once for a batch size, and then only executes.
/// Not for use by several threads at once: each thread has a Network of its own.
///
/// Activations of shape (N, C, H, W) lie in memory as N, H, W, C (channels last), so that kernels vectorise
/// over channels; activations of shape (N, F) are row-major. Parameters and their gradients are row-major in
/// the shape that `parameters` gives.
class Layer {
 public:
  virtual ~Layer() = default;

  /// Shape of one sample's output. Throws Error when `input` (one sample's shape) does not fit.
  [[nodiscard]] virtual Shape output_shape(const Shape& input) const = 0;
  /// The tensors this layer needs for that input. REQUIRES: output_shape(input) does not throw.
  [[nodiscard]] virtual std::vector<ParameterSpec> parameters(const Shape& input) const;
  /// True when this layer can do the work of `next`, which follows it, too. From then on it does, forward and
  /// backward, and output_shape is that of the pair. Called before `setup`.
  virtual bool absorb(const LayerSpec& next);
  /// Builds everything that depends on shapes.
  virtual void setup(const Setup& setup) = 0;
  /// True when output and input may be the same memory, in both directions.
  [[nodiscard]] virtual bool in_place() const { return false; }
  /// Values have changed: pack them as the kernels want them. `state` is in the order of `parameters`, and
  /// stays valid and unchanged until the next call.
  virtual void load(std::span<const std::span<const float>> state);
  virtual void forward(const Pass& pass, std::span<const float> input, std::span<float> output) = 0;
  /// From d(loss)/d(output) to d(loss)/d(input) (empty when not needed) and d(loss)/d(parameters), which is
  /// written (not added), in the order of `parameters`; all spans of `gradients` are empty when the layer is
  /// frozen. For a buffer the "gradient" is the change of its running value that this batch asks for. May
  /// overwrite `grad_output`. `input` and `output` are those of the last forward, unless a later layer has
  /// worked in place: then `output` may have been set to zero or scaled by a positive factor where the
  /// gradient tells so, too.
  virtual void backward(const Pass& pass, std::span<const float> input, std::span<const float> output,
                        std::span<float> grad_output, std::span<float> grad_input,
                        std::span<const std::span<float>> gradients) = 0;
};

/// Makes a layer from its spec. Throws Error (usage) for an unknown kind or setting (with the nearest known
/// one), a missing one, or a value out of range.
std::unique_ptr<Layer> make_layer(const LayerSpec& spec);

/// The kinds that `make_layer` knows.
std::vector<std::string_view> layer_kinds();

}  // namespace impart::nn

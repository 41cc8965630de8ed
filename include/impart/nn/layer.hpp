// Layer: one differentiable step of a network, for a fixed batch shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "impart/core/aligned.hpp"
#include "impart/core/registry.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/core/tensor.hpp"
#include "impart/nn/spec.hpp"

namespace impart::nn {

/// Where an initial value comes from. Weights draw from Rng(seed, "init", name_id(full name)).
enum class Init : std::uint8_t {
  kHe,        ///< normal, variance 2 / fan_in (He et al. 2015, eq. 10)
  kHeFanOut,  ///< normal, variance 2 / fan_out (the same, eq. 14): what torchvision gives its convolutions
  kGlorot,    ///< uniform on +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16)
  kNormal,    ///< normal, standard deviation 0.01 (Simonyan and Zisserman 2015, section 3.1)
  kUniform,   ///< uniform on +-sqrt(1 / fan_in), biases as well: what PyTorch does when nobody says otherwise
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
  /// What a shard's part of the global batch is: factor of the changes that a shard asks of buffers.
  float shard_share = 1.0F;
};

/// Working memory that the layers of one network share. A layer reserves what it needs in `setup`, and may
/// use it within one call of `forward` or `backward`; nothing in it outlives the call.
class Scratch {
 public:
  void reserve(std::size_t bytes) { bytes_ = bytes > bytes_ ? bytes : bytes_; }
  /// Counts what somebody has allocated for itself in `setup`: packed weights, tables, sums.
  void count_table(std::size_t bytes) { table_bytes_ += bytes; }
  /// After the last `setup`: makes the memory, once for all layers.
  void allocate() { memory_ = AlignedBuffer<std::byte>(bytes_); }

  [[nodiscard]] std::byte* data() noexcept { return memory_.data(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::size_t table_bytes() const noexcept { return table_bytes_; }

 private:
  std::size_t bytes_ = 0;
  std::size_t table_bytes_ = 0;
  AlignedBuffer<std::byte> memory_;
};

/// Room for what a layer finds in its forward pass and needs again in its backward pass. See Kept.
class KeptBytes {
 public:
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  /// For whoever makes the room, on a cache line, before the first pass.
  void place(std::byte* memory) noexcept { memory_ = memory; }

 protected:
  std::size_t bytes_ = 0;
  std::byte* memory_ = nullptr;
};

/// Values in such room, a member of a layer. The layer asks for it by Setup::keep, and the member must not
/// move from then on. The network makes the room, and lends it to others when it is not needed: a forward
/// pass finds anything there.
template <class T>
class Kept final : public KeptBytes {
 public:
  void resize(std::size_t size) noexcept { bytes_ = size * sizeof(T); }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_ / sizeof(T); }
  [[nodiscard]] bool empty() const noexcept { return bytes_ == 0; }
  [[nodiscard]] T* data() const noexcept { return reinterpret_cast<T*>(memory_); }
  T& operator[](std::size_t i) const { return data()[i]; }
};

/// Networks that compute the other parts of a batch at the same time, in other processes.
struct Peers {
  /// The batch is so many equal parts, a power of two, of which a network has one.
  std::int64_t parts = 1;
  /// Element-wise sum over the parts, in place, with the same bits for all. The networks call it equally
  /// often, with equal sizes. Not called when there is one part.
  std::function<void(std::span<double> values)> sum = {};
};

/// What a layer is built for.
struct Setup {
  std::vector<Shape> inputs;  ///< with the batch extent in front: (N, ...)
  std::int64_t shards = 1;    ///< a power of two; the batch is so many equal parts
  bool training = false;      ///< backward will be called
  bool trainable = true;      ///< false: frozen; backward is not asked for gradients of its parameters
  std::vector<bool> need_input_gradient = {};  ///< for each input: backward is asked for its gradient
  bool tail = false;                           ///< as NetworkOptions::tail
  Peers peers = {};                            ///< as NetworkOptions::peers
  Scratch* scratch = nullptr;                  ///< outlives the layer
  std::vector<KeptBytes*>* kept = nullptr;     ///< of this layer, for whoever makes the room

  template <class T>
  void keep(Kept<T>& values, std::size_t size) const {
    values.resize(size);
    kept->push_back(&values);
  }
};

/// Values of a layer's inputs, one span each.
using Inputs = std::span<const std::span<const float>>;

/// Where the gradient with respect to an input goes.
struct InputGradient {
  std::span<float> values;  ///< empty: not needed
  bool add = false;         ///< add to what is there: another layer reads the same input
};

/// What one call of Layer::backward reads and writes.
struct Backward {
  Inputs inputs;                               ///< of the last forward; undefined if not Needs::inputs
  std::span<const float> output;               ///< of the last forward; undefined if not Needs::output
  std::span<float> grad_output;                ///< d(loss)/d(output); may be overwritten
  std::span<const InputGradient> grad_inputs;  ///< for each input
  /// In the order of Layer::parameters: d(loss)/d(parameter), written, not added. All spans are empty when
  /// the layer is frozen. For a buffer the "gradient" is the change of its running value that the batch asks
  /// for, times Pass::shard_share.
  std::span<const std::span<float>> gradients;
};

/// What backward reads beside the gradient of the output: the network keeps only that.
struct Needs {
  bool inputs = true;
  bool output = true;
};

/// What a layer has to do in one pass over the batch, for reports.
struct Work {
  std::string kernels = {};  ///< who does it: "winograd4, gemm, gemm" for forward, data and weights
  /// Floating-point operations of the products as plain loops would do them, a multiplication and an addition
  /// being two. Winograd's convolutions do fewer, so they may be "faster" than the machine's peak.
  double forward = 0;
  double backward = 0;
};

/// One layer of a network. A Network owns it, sets it up once for a batch size, and then only executes.
/// Not for use by several threads at once: each thread has a Network of its own.
///
/// Activations of shape (N, C, H, W) lie in memory as N, H, W, C (channels last), so that kernels vectorise
/// over channels; activations of shape (N, F) and (N, T, F) are row-major. Parameters and their gradients are
/// row-major in the shape that `parameters` gives.
///
/// Equal bits: a batch is `shards` equal parts. The values of a sample do not depend on what else is in the
/// batch, and statistics over samples are those of a shard; or, of a batch_norm with `sync`, of all shards
/// and those of the peers. The gradient of a parameter is the sum over the shards, in a balanced binary tree
/// in their order, of each shard's own gradient: what comes out when every shard is computed alone and the
/// gradients are added as sum_shards does. Statistics of all shards are summed in the same tree.
class Layer {
 public:
  virtual ~Layer() = default;

  /// Shape of one sample's output. Throws Error when `inputs` (of one sample), or their number, do not fit.
  [[nodiscard]] virtual Shape output_shape(std::span<const Shape> inputs) const = 0;
  /// The tensors this layer needs for these inputs. REQUIRES: output_shape(inputs) does not throw.
  [[nodiscard]] virtual std::vector<ParameterSpec> parameters(std::span<const Shape> inputs) const;
  /// True when this layer can do the work of `next` as well, which reads this layer's output (that nothing
  /// else reads) and perhaps other values, which become further inputs of this layer. From then on it does,
  /// forward and backward, and output_shape is that of the pair. Called before `setup`.
  virtual bool absorb(const LayerSpec& next);
  /// Builds everything that depends on shapes.
  virtual void setup(const Setup& setup) = 0;
  /// True when the output and the only input may be the same memory, in both directions. After `setup`.
  [[nodiscard]] virtual bool in_place() const { return false; }
  /// After `setup`.
  [[nodiscard]] virtual Needs needs() const { return {}; }
  /// True when backward heeds InputGradient::add, as layers of several inputs must; otherwise the network
  /// adds. After `setup`.
  [[nodiscard]] virtual bool adds_gradients() const { return false; }
  /// After `setup`.
  [[nodiscard]] virtual Work work_of_pass() const { return {}; }
  /// Values have changed: pack them as the kernels want them. `state` is in the order of `parameters`, and
  /// stays valid and unchanged until the next call.
  virtual void load(std::span<const std::span<const float>> state);
  virtual void forward(const Pass& pass, Inputs inputs, std::span<float> output) = 0;
  virtual void backward(const Pass& pass, const Backward& call) = 0;
};

/// One of several equal parts of the channels (features, heads) of a layer, in their order.
struct Part {
  std::int64_t index = 0;
  std::int64_t of = 1;
};

/// What a layer is made from beside its settings.
struct LayerContext {
  std::string_view name = {};  ///< the layer's: it keys random masks
  Part part = {};              ///< see make_layer_part
};

/// The kinds of layers: each reads its settings, and does with defaults alone.
const Registry<std::unique_ptr<Layer>, const LayerContext&>& layers();

/// Makes a layer from its spec, with its own maker if it has one. Throws Error (usage) for an unknown kind or
/// setting (with the nearest known one), a missing one, or a value out of range.
std::unique_ptr<Layer> make_layer(const LayerSpec& spec);

/// A part of what the layer of `spec` computes, from the seeds of the whole. Kinds:
/// - "multi_head_attention": the part's heads. It reads whole inputs and has the heads' rows of
///   in_proj_weight and in_proj_bias (those of queries, keys and values, one after another) and columns of
///   out_proj.weight; the whole's output is the sum of all parts' and out_proj.bias. REQUIRES: `part.of`
///   divides the heads.
/// - "dropout": the part's channels of images, or features.
/// Throws as make_layer does.
std::unique_ptr<Layer> make_layer_part(const LayerSpec& spec, Part part);

/// The tensors of each layer of a model. REQUIRES: its layers have names. Throws as check_model does.
std::vector<std::vector<ParameterSpec>> model_tensors(const ModelSpec& spec);

}  // namespace impart::nn

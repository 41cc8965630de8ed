// Network: a graph of layers, built for one batch size, whose values live in a StateDict elsewhere.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "impart/core/aligned.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/nn/layer.hpp"
#include "impart/nn/spec.hpp"

namespace impart::nn {

/// Names, shapes and kinds of a model's tensors: "conv1.weight", ... Throws as check_model does.
StateLayoutPtr state_layout(const ModelSpec& spec);

/// Initial values, a pure function of (spec, seed) and of each tensor's name.
StateDict initial_state(const ModelSpec& spec, std::uint64_t seed);
/// Initial values of one layer's tensors alone, as for a replaced head.
void initialise_layer(const ModelSpec& spec, const std::string& layer, std::uint64_t seed, StateDict& state);

/// Initial values of one tensor, a pure function of the seed and of its full name.
void initialise(const ParameterSpec& tensor, std::string_view full_name, std::uint64_t seed,
                std::span<float> values);

/// Sets the number of threads that oneDNN uses in the calling thread to one: impart's parallelism is over
/// shards. A Network does so by itself; code that calls oneDNN beside it must, too.
void use_one_kernel_thread();

/// How capable the instruction set is that this process's kernels would use: a larger number has all that a
/// smaller one has. ONEDNN_MAX_CPU_ISA lowers it.
int isa_level();
/// Keeps the kernels to this level, so that all ranks compute the same bits (decision 6). Call it before the
/// first network; throws Error when oneDNN has made up its mind already.
void limit_isa(int level);

/// The instruction set that the kernels use here ("avx512_core"), for lineage.
std::string kernel_isa();

/// The library beside impart's own kernels, as it is loaded here ("oneDNN 2.6.3"), for lineage.
std::string kernel_library();

/// Floating-point operations a second of one core's multiply-add units, with that instruction set, as a loop
/// over registers alone finds them. Takes about 20 ms.
double peak_flops();

/// What to build beside the forward pass.
struct NetworkOptions {
  bool training = false;  ///< build backward, too
  /// By a parameter's name. A layer all of whose parameters are false is frozen: there are no gradients for
  /// them, and a batch norm uses its running statistics. Backward goes no further than layers that are not
  /// frozen need. Empty: nothing is frozen.
  std::function<bool(const std::string& parameter)> trainable = {};
  /// For what is left at the end of an epoch: a batch norm that gets a single value a channel, of which there
  /// are no statistics, uses its running ones. Otherwise such a batch norm is an error.
  bool tail = false;
  /// The batch is so many equal shards, a power of two. How a batch is cut decides statistics of batch norms
  /// and the order in which gradients are added; see Layer.
  std::int64_t shards = 1;
  Peers peers = {};  ///< who has the rest of the batch, for the statistics of a batch norm with `sync`
  /// Layers whose outputs somebody wants to see, and perhaps to give gradients for: Network::tap. Not the
  /// last layer, whose output is the network's. Layers are computed together (Layer::absorb) up to a tapped
  /// one, and again behind it.
  std::vector<std::string> taps = {};
  /// The input is the output of another network's layer: images are channels last, as layers have them, and
  /// backward gives its gradient, too (Network::input_gradient).
  bool inner = false;
};

/// The shape of one sample of the output of a layer of that name: (C, H, W) for what lies in memory as (H, W,
/// C). Throws as check_model does, and Error (usage) when there is no such layer.
Shape layer_shape(const ModelSpec& spec, const std::string& layer);

/// The first layer whose statistics in training are those of the whole batch: a batch_norm with `sync` that
/// is not frozen. `trainable`: as NetworkOptions.
std::optional<std::string> synced_layer(
    const ModelSpec& spec, const std::function<bool(const std::string& parameter)>& trainable = {});

/// Bytes that a network takes beside the values that it is given.
struct NetworkMemory {
  std::size_t activations = 0;  ///< and their gradients, and what layers keep for their backward pass
  std::size_t scratch = 0;      ///< and tables and packed weights of layers
  [[nodiscard]] std::size_t total() const noexcept { return activations + scratch; }
};

/// What one layer, with those that it has absorbed, does in a pass, and how long it took.
struct LayerTime {
  std::string layer;
  Work work;
  double forward_seconds = 0;
  double backward_seconds = 0;
};

/// What one micro-batch has in memory from its forward pass to its backward pass: activations, their
/// gradients, and what layers keep. See Network::workspace.
class Workspace {
 public:
  Workspace() = default;

 private:
  friend class Network;

  AlignedBuffer<float> block_;  // as the network's plan lays it out
  std::span<const float> first_input_;
};

/// A model for batches of exactly `batch` samples: a plan, and packed weights, which passes only read; what
/// they write is in a Workspace. Shapes, kernels, memory plan and scratch are decided in
/// the constructor; `forward` and `backward` allocate nothing, but for what oneDNN does by itself. Not
/// thread-safe: one Network a thread.
class Network {
 public:
  Network(const ModelSpec& spec, std::int64_t batch, NetworkOptions options = {});
  Network(Network&&) noexcept;
  Network& operator=(Network&&) noexcept;
  ~Network();

  /// What Network(spec, batch, options) takes, without making room for it. Throws as the constructor does.
  static NetworkMemory memory_of(const ModelSpec& spec, std::int64_t batch, const NetworkOptions& options);
  /// What each layer has to do to train with one sample, when nothing is frozen.
  static std::vector<Work> work_of(const ModelSpec& spec);

  [[nodiscard]] std::int64_t batch() const noexcept;
  /// Takes the values of `state` (packs them). Call again after each change. `state` must outlive the next
  /// pass.
  void load(const StateDict& state);
  void load(StateDict&& state) = delete;
  /// Room for another micro-batch, so that several may be under way: between the forward pass of one and its
  /// backward pass, others may come, each in its own.
  [[nodiscard]] Workspace workspace() const;
  /// From now on passes, taps and gradients are those of `workspace`, made by a network of the same spec,
  /// batch and options. Borrowed until another is used. At first it is the network's own.
  void use(Workspace& workspace);
  [[nodiscard]] Workspace& own_workspace() noexcept;

  /// `input`: (N, input shape), row-major. The result, (N, classes) or (N, T, classes), belongs to the
  /// network until the next call in the same workspace.
  std::span<const float> forward(const Pass& pass, std::span<const float> input);
  /// `grad_output`: d(loss)/d(output of the last forward), in its shape; overwritten. Gradients of all
  /// parameters that are not frozen are written to `gradients` (same names as the state); buffers get the
  /// change that this batch asks for. What belongs to frozen layers is left as it is.
  ///
  /// After each layer, `final_from(offset)` is told from which offset in the arena of `gradients` on all
  /// parameters' gradients are final, as far as they lie in front of the buffers; at last 0, with all of
  /// them.
  void backward(const Pass& pass, std::span<float> grad_output, StateDict& gradients,
                const std::function<void(std::size_t offset)>& final_from = {});

  /// The output of layer `k` of NetworkOptions::taps, as layers have it: (N, H, W, C), (N, F) or (N, T, F).
  /// It is there from a forward pass until the backward pass begins, or the next forward pass.
  [[nodiscard]] std::span<const float> tap(std::size_t k) const;
  /// To be written, all of it, after a forward pass: d(loss)/d(that output) beside what comes back from later
  /// layers, to which `backward` adds it. Empty where backward does not come: in front of all that is
  /// trainable, or without `training`.
  [[nodiscard]] std::span<float> tap_gradient(std::size_t k);
  /// With NetworkOptions::inner: d(loss)/d(input) of the last backward pass, in the input's shape.
  [[nodiscard]] std::span<const float> input_gradient() const;

  /// A forward pass that names the first layer whose parameters or output are not finite.
  [[nodiscard]] std::optional<std::string> first_not_finite(const Pass& pass, std::span<const float> input);

  /// From now on the seconds that each layer takes are added up.
  void time_layers();
  /// In the order of the forward pass.
  [[nodiscard]] std::vector<LayerTime> layer_times() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace impart::nn

#include "impart/nn/network.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "impart/core/clock.hpp"
#include "impart/core/error.hpp"
#include "nn/graph.hpp"
#include "nn/kernels/kernels.hpp"
#include "nn/memory_plan.hpp"

namespace impart::nn {

namespace {

std::size_t elements(const Shape& shape) { return static_cast<std::size_t>(shape.elements()); }

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

/// The memory that a node works on: numbers of the plan's arrays, and then the arrays.
struct Memory {
  std::size_t value_array = kNone;
  std::size_t gradient_array = kNone;  // of the output; kNone: the caller's, or not needed
  std::size_t sum_array = kNone;       // for a gradient that the network adds
  std::size_t summed = kNone;          // the input whose gradient that is
  std::vector<KeptBytes*> kept;        // the layer's own values, and
  std::vector<std::size_t> kept_arrays;
  std::size_t root = 0;    // the node whose memory the output lies in
  std::span<float> value;  // the output
  std::vector<std::span<const float>> inputs;
  std::vector<std::span<const float>> state;
  std::vector<std::span<float>> gradients;
  std::vector<InputGradient> grad_inputs;
  std::size_t parameters_before = 0;  // where those of all earlier nodes end in the arena of the gradients
};

}  // namespace

struct Network::Impl {
  Impl(const ModelSpec& given, std::int64_t batch_size, const NetworkOptions& options);

  void set_up(const NetworkOptions& options);
  void plan_values();
  void plan_kept();
  void plan_gradients();
  void make_room();
  void use(Workspace& workspace);
  void bind(const StateLayout& layout, const std::string& what) const;
  void find_parameters(const StateLayout& layout);
  void run_node(std::size_t i, const Pass& pass);
  void start(std::span<const float> input);
  void backward_node(std::size_t i, const Pass& pass, std::span<float> grad_output, StateDict& gradients);

  /// Runs `body`, and adds its seconds to those of node `i` when they are wanted.
  template <class Body>
  void timed(std::size_t i, double LayerTime::*seconds, Body body) {
    if (times.empty()) return body();
    const auto start = Clock::now();
    body();
    times[i].*seconds += seconds_since(start);
  }

  [[nodiscard]] bool shares_memory(std::size_t i) const;
  /// The node whose memory this node's output lies in.
  [[nodiscard]] std::size_t root(std::size_t i) const {
    while (shares_memory(i)) i = static_cast<std::size_t>(graph.nodes[i].inputs[0]);
    return i;
  }
  /// The first `size` values of an array of the plan, in the workspace that is used.
  [[nodiscard]] std::span<float> array(std::size_t number, std::size_t size) const {
    return at->block_.span().subspan(plan.offset(number), size);
  }
  [[nodiscard]] std::span<const float> value_of(int node) const {
    return node == kInputNode ? at->first_input_ : memory[static_cast<std::size_t>(node)].value;
  }
  // Moments of the plan: the input's reorder, each node forward, the loss, each node backward.
  [[nodiscard]] int forward_moment(std::size_t i) const { return static_cast<int>(i) + 1; }
  [[nodiscard]] int loss_moment() const { return static_cast<int>(graph.nodes.size()) + 1; }
  [[nodiscard]] int backward_moment(std::size_t i) const {
    return loss_moment() + static_cast<int>(graph.nodes.size() - i);
  }

  std::int64_t batch = 0;
  bool training = false;
  Graph graph;
  std::vector<Memory> memory;  // of each node
  Scratch scratch;
  MemoryPlan plan;
  std::size_t images_array = kNone;
  std::size_t input_gradient_array = kNone;
  Workspace home;                // the network's own, and
  Workspace* at = &home;         // the one that is used
  std::vector<LayerTime> times;  // of each node; empty when nobody asks
};

Network::Impl::Impl(const ModelSpec& given, std::int64_t batch_size, const NetworkOptions& options)
    : batch(batch_size), training(options.training) {
  if (batch < 1) throw Error("a network's batch needs at least one sample").got(std::to_string(batch));
  if (options.shards < 1 || batch % options.shards != 0 ||
      !std::has_single_bit(static_cast<std::uint64_t>(options.shards))) {
    throw Error("a network's batch is cut into a power of two of equal shards")
        .got(fmt::format("{} samples, {} shards", batch, options.shards));
  }
  graph = make_graph(given, batch, options);
  memory.resize(graph.nodes.size());
  set_up(options);
  plan_values();
  plan_kept();
  if (training) plan_gradients();
  plan.place();
}

void Network::Impl::set_up(const NetworkOptions& options) {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    auto& node = graph.nodes[i];
    try {
      Setup setup{.inputs = node.input_shapes,
                  .shards = options.shards,
                  .training = options.training,
                  .trainable = node.trainable,
                  .need_input_gradient = {},
                  .tail = options.tail,
                  .peers = options.peers,
                  .scratch = &scratch,
                  .kept = &memory[i].kept};
      for (const int input : node.inputs) {
        setup.need_input_gradient.push_back(options.training && graph.needs_gradient(input));
      }
      node.layer->setup(setup);
    } catch (Error& e) {
      e.at(fmt::format("model '{}': layer '{}'", graph.name, node.name));
      throw;
    }
  }
}

// A layer may write over its input when nothing else wants it: no other reader, no backward pass.
bool Network::Impl::shares_memory(std::size_t i) const {
  const auto& node = graph.nodes[i];
  if (!node.layer->in_place() || node.inputs.size() != 1 || node.inputs[0] == kInputNode) return false;
  const auto& input = graph.nodes[static_cast<std::size_t>(node.inputs[0])];
  if (input.readers.size() != 1 || input.tapped) return false;
  return !training || (!node.layer->needs().inputs && !input.layer->needs().output);
}

// Outputs are kept as long as somebody reads them, in the forward pass or in the backward pass.
void Network::Impl::plan_values() {
  int input_needed = 0;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto& node = graph.nodes[i];
    const bool backward = training && node.needs_gradient;
    const int inputs_needed = backward && node.layer->needs().inputs ? backward_moment(i) : forward_moment(i);
    for (const int input : node.inputs) {
      if (input == kInputNode) {
        input_needed = std::max(input_needed, inputs_needed);
      } else {
        plan.extend(memory[root(static_cast<std::size_t>(input))].value_array, inputs_needed, inputs_needed);
      }
    }
    const auto owner = root(i);
    const int own = forward_moment(i);
    if (owner == i) memory[i].value_array = plan.add(elements(node.output), own, own);
    const bool last = i + 1 == graph.nodes.size();
    const int kept = backward && node.layer->needs().output ? backward_moment(i)
                     : last || node.tapped                  ? loss_moment()
                                                            : own;
    plan.extend(memory[owner].value_array, own, kept);
  }
  if (std::ranges::count(graph.taps, kInputNode) > 0) input_needed = std::max(input_needed, loss_moment());
  if (graph.reorder_input) images_array = plan.add(elements(graph.input), 0, input_needed);
}

// What a layer keeps for its backward pass lives until then.
void Network::Impl::plan_kept() {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const int first = forward_moment(i);
    const int last = training && graph.nodes[i].needs_gradient ? backward_moment(i) : first;
    for (const auto* kept : memory[i].kept) {
      memory[i].kept_arrays.push_back(
          plan.add((kept->bytes() + sizeof(float) - 1) / sizeof(float), first, last));
    }
  }
}

// The gradient of an output lives from its last reader's backward pass, which writes it, to its own node's;
// of a tapped one, from the loss on.
void Network::Impl::plan_gradients() {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto& node = graph.nodes[i];
    if (!node.tapped || !node.needs_gradient) continue;
    memory[i].gradient_array = plan.add(elements(node.output), loss_moment(), backward_moment(i));
  }
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    const auto& node = graph.nodes[i];
    if (!node.needs_gradient) continue;
    const int now = backward_moment(i);
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      if (!graph.needs_gradient(node.inputs[k])) continue;
      const bool is_input = node.inputs[k] == kInputNode;
      const auto input = static_cast<std::size_t>(is_input ? 0 : node.inputs[k]);
      const int needed = backward_moment(input) + (is_input ? 1 : 0);  // the caller reads the input's
      const std::size_t size = elements(node.input_shapes[k]);
      auto& array = is_input ? input_gradient_array : memory[input].gradient_array;
      if (shares_memory(i)) {
        array = memory[i].gradient_array;
        if (array != kNone) plan.extend(array, now, needed);
      } else if (array == kNone) {
        array = plan.add(size, now, needed);
      } else if (!node.layer->adds_gradients()) {
        auto& sum = memory[i].sum_array;
        if (sum == kNone || plan.size(sum) < size) sum = plan.add(size, now, now);
      }
    }
  }
}

void Network::Impl::make_room() {
  scratch.allocate();
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto& node = graph.nodes[i];
    auto& mine = memory[i];
    mine.root = root(i);
    mine.inputs.resize(node.inputs.size());
    mine.state.resize(node.tensors.size());
    mine.gradients.resize(node.tensors.size());
    mine.grad_inputs.resize(node.inputs.size());
    if (!training || !node.needs_gradient) continue;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      if (!graph.needs_gradient(node.inputs[k]) || graph.writes_gradient_first(i, k)) continue;
      if (node.layer->adds_gradients()) {
        mine.grad_inputs[k].add = true;
      } else {
        mine.summed = k;
      }
    }
  }
}

// Lays values, and what layers keep, where `workspace` has room for them.
void Network::Impl::use(Workspace& workspace) {
  at = &workspace;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto& node = graph.nodes[i];
    auto& mine = memory[i];
    mine.value = array(memory[mine.root].value_array, elements(node.output));
    for (std::size_t k = 0; k < node.inputs.size(); ++k) mine.inputs[k] = value_of(node.inputs[k]);
    for (std::size_t k = 0; k < mine.kept.size(); ++k) {
      mine.kept[k]->place(reinterpret_cast<std::byte*>(array(mine.kept_arrays[k], 0).data()));
    }
  }
}

// Throws when `layout` is not this model's.
void Network::Impl::bind(const StateLayout& layout, const std::string& what) const {
  for (const auto& node : graph.nodes) {
    for (std::size_t k = 0; k < node.tensors.size(); ++k) {
      const auto* entry = layout.find(node.tensors[k]);
      if (entry == nullptr || entry->shape.elements() != node.tensor_sizes[k]) {
        throw Error(fmt::format("the {} do not fit model '{}'", what, graph.name))
            .expected(fmt::format("'{}' with {} values", node.tensors[k], node.tensor_sizes[k]))
            .got(entry == nullptr ? "none" : entry->shape.str());
      }
    }
  }
}

// Where the parameters of each node's predecessors end.
void Network::Impl::find_parameters(const StateLayout& layout) {
  std::size_t end = 0;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    memory[i].parameters_before = end;
    for (const auto& name : graph.nodes[i].tensors) {
      const auto* entry = layout.find(name);
      if (entry->kind != StateKind::kParameter) continue;
      end = std::max(end, entry->offset + static_cast<std::size_t>(entry->shape.elements()));
    }
  }
}

// Checks the input, and puts it into the order that the layers want.
void Network::Impl::start(std::span<const float> input) {
  if (input.size() != elements(graph.input)) {
    throw Error("the batch does not fit the network")
        .expected(fmt::format("{} ({} values)", graph.input.str(), graph.input.elements()))
        .got(fmt::format("{} values", input.size()));
  }
  at->first_input_ = input;
  if (!graph.reorder_input) return;
  const auto images = array(images_array, input.size());
  transpose_images(input.data(), batch, graph.input[1], graph.input[2] * graph.input[3], images.data());
  at->first_input_ = images;
}

void Network::Impl::run_node(std::size_t i, const Pass& pass) {
  const auto& node = graph.nodes[i];
  auto& mine = memory[i];
  for (std::size_t k = 0; k < node.inputs.size(); ++k) mine.inputs[k] = value_of(node.inputs[k]);
  timed(i, &LayerTime::forward_seconds, [&] { node.layer->forward(pass, mine.inputs, mine.value); });
}

void Network::Impl::backward_node(std::size_t i, const Pass& pass, std::span<float> grad_output,
                                  StateDict& gradients) {
  const auto& node = graph.nodes[i];
  auto& mine = memory[i];
  const auto gradient_of = [&](int n) {
    if (n == kInputNode) return array(input_gradient_array, elements(graph.input));
    const auto number = static_cast<std::size_t>(n);
    const auto size = elements(graph.nodes[number].output);
    const auto gradient = memory[number].gradient_array;
    return gradient == kNone ? grad_output.first(size) : array(gradient, size);
  };
  for (std::size_t k = 0; k < node.inputs.size(); ++k) {
    if (!graph.needs_gradient(node.inputs[k])) continue;
    const auto to = gradient_of(node.inputs[k]);
    mine.grad_inputs[k].values = k == mine.summed ? array(mine.sum_array, to.size()) : to;
  }
  for (std::size_t k = 0; k < node.tensors.size() && node.trainable; ++k) {
    mine.gradients[k] = gradients.values(node.tensors[k]);
  }
  timed(i, &LayerTime::backward_seconds, [&] {
    node.layer->backward(
        pass, {mine.inputs, mine.value, gradient_of(static_cast<int>(i)), mine.grad_inputs, mine.gradients});
  });
  if (mine.summed == kNone) return;
  const auto to = gradient_of(node.inputs[mine.summed]);
  const auto from = mine.grad_inputs[mine.summed].values;
  for (std::size_t j = 0; j < to.size(); ++j) to[j] += from[j];
}

Network::Network(const ModelSpec& spec, std::int64_t batch, NetworkOptions options) {
  use_one_kernel_thread();
  impl_ = std::make_unique<Impl>(spec, batch, options);
  impl_->make_room();
  impl_->home = workspace();
  impl_->use(impl_->home);
}

Workspace Network::workspace() const {
  Workspace made;
  made.block_ = AlignedBuffer<float>(impl_->plan.total());
  return made;
}

void Network::use(Workspace& workspace) {
  if (workspace.block_.span().size() != impl_->plan.total()) {
    throw Error("a workspace of another network")
        .expected(fmt::format("room for {} values", impl_->plan.total()))
        .got(std::to_string(workspace.block_.span().size()));
  }
  impl_->use(workspace);
}

Workspace& Network::own_workspace() noexcept { return impl_->home; }

Network::Network(Network&&) noexcept = default;
Network& Network::operator=(Network&&) noexcept = default;
Network::~Network() = default;

std::optional<std::string> synced_layer(const ModelSpec& given,
                                        const std::function<bool(const std::string& parameter)>& trainable) {
  ModelSpec spec = given;
  name_layers(spec);
  for (const auto& layer : spec.layers) {
    const auto trained = [&](const char* name) { return !trainable || trainable(layer.name + name); };
    if (is_synced(layer) && (trained(".weight") || trained(".bias"))) return layer.name;
  }
  return std::nullopt;
}

NetworkMemory Network::memory_of(const ModelSpec& spec, std::int64_t batch, const NetworkOptions& options) {
  use_one_kernel_thread();
  const Impl impl(spec, batch, options);
  return {impl.plan.total() * sizeof(float), impl.scratch.bytes() + impl.scratch.table_bytes()};
}

std::vector<Work> Network::work_of(const ModelSpec& spec) {
  use_one_kernel_thread();
  const Impl impl(spec, 1, {.training = true, .tail = true});
  std::vector<Work> work;
  for (const auto& node : impl.graph.nodes) work.push_back(node.layer->work_of_pass());
  return work;
}

std::int64_t Network::batch() const noexcept { return impl_->batch; }

void Network::load(const StateDict& state) {
  use_one_kernel_thread();
  auto& net = *impl_;
  net.bind(state.layout(), "values");
  for (std::size_t i = 0; i < net.graph.nodes.size(); ++i) {
    const auto& node = net.graph.nodes[i];
    auto& values = net.memory[i].state;
    for (std::size_t k = 0; k < node.tensors.size(); ++k) values[k] = state.values(node.tensors[k]);
    node.layer->load(values);
  }
}

std::span<const float> Network::forward(const Pass& pass, std::span<const float> input) {
  use_one_kernel_thread();
  auto& net = *impl_;
  net.start(input);
  for (std::size_t i = 0; i < net.memory.size(); ++i) net.run_node(i, pass);
  return net.memory.empty() ? input : std::span<const float>(net.memory.back().value);
}

void Network::backward(const Pass& pass, std::span<float> grad_output, StateDict& gradients,
                       const std::function<void(std::size_t offset)>& final_from) {
  use_one_kernel_thread();
  auto& net = *impl_;
  if (!net.training) throw Error("a network that was built for evaluation has no backward pass");
  if (net.memory.empty()) {
    if (final_from) final_from(0);
    return;
  }
  if (grad_output.size() != net.memory.back().value.size()) {
    throw Error("the gradient does not fit the network's output")
        .expected(fmt::format("{} values", net.memory.back().value.size()))
        .got(fmt::format("{} values", grad_output.size()));
  }
  net.bind(gradients.layout(), "gradients");
  if (final_from) net.find_parameters(gradients.layout());
  for (std::size_t i = net.memory.size(); i-- > 0;) {
    if (net.graph.nodes[i].needs_gradient) net.backward_node(i, pass, grad_output, gradients);
    if (final_from) final_from(net.memory[i].parameters_before);
  }
}

std::span<const float> Network::tap(std::size_t k) const { return impl_->value_of(impl_->graph.taps.at(k)); }

std::span<float> Network::tap_gradient(std::size_t k) {
  auto& net = *impl_;
  const int node = net.graph.taps.at(k);
  if (!net.training || node == kInputNode || !net.graph.needs_gradient(node)) return {};
  const auto& mine = net.memory[static_cast<std::size_t>(node)];
  return net.array(mine.gradient_array, mine.value.size());
}

std::span<const float> Network::input_gradient() const {
  const auto& net = *impl_;
  if (net.input_gradient_array == kNone) {
    throw Error("the network has no gradient of its input").hint("build it with `inner` and `training`");
  }
  return net.array(net.input_gradient_array, elements(net.graph.input));
}

std::optional<std::string> Network::first_not_finite(const Pass& pass, std::span<const float> input) {
  use_one_kernel_thread();
  auto& net = *impl_;
  net.start(input);
  std::optional<std::string> first;
  for (std::size_t i = 0; i < net.memory.size(); ++i) {
    net.run_node(i, pass);
    const auto& mine = net.memory[i];
    const bool finite =
        std::all_of(mine.state.begin(), mine.state.end(), all_finite) && all_finite(mine.value);
    if (!finite && !first) first = net.graph.nodes[i].name;
  }
  return first;
}

void Network::time_layers() { impl_->times = layer_times(); }

std::vector<LayerTime> Network::layer_times() const {
  auto times = impl_->times;
  if (!times.empty()) return times;
  for (const auto& node : impl_->graph.nodes) times.push_back({node.name, node.layer->work_of_pass(), 0, 0});
  return times;
}

}  // namespace impart::nn

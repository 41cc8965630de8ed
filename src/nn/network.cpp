#include "impart/nn/network.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "impart/core/error.hpp"
#include "nn/kernels.hpp"

namespace impart::nn {

namespace {

/// A layer in its place, with the memory that it works on.
struct Node {
  std::string name;
  std::unique_ptr<Layer> layer;
  Shape input;                       // with the batch in front
  Shape output;                      // with the batch in front, after what the layer has absorbed
  std::vector<std::string> tensors;  // full names, in the order of Layer::parameters
  std::vector<std::int64_t> tensor_sizes;
  bool trainable = false;
  std::span<float> value;  // its output
  std::vector<std::span<const float>> state;
  std::vector<std::span<float>> gradients;
};

std::size_t elements(const Shape& shape) { return static_cast<std::size_t>(shape.elements()); }

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

// (N, C, H, W) in row-major order is already channels last when there is one channel, or one pixel.
bool needs_reorder(const Shape& sample) {
  return sample.rank() == 3 && sample[0] > 1 && sample[1] * sample[2] > 1;
}

}  // namespace

struct Network::Impl {
  Impl(const ModelSpec& given, std::int64_t batch_size, const NetworkOptions& options);

  void make_nodes(const ModelSpec& spec, const NetworkOptions& options);
  void set_up(const NetworkOptions& options);
  void plan_memory();
  void bind(const StateLayout& layout, const std::string& what) const;

  std::string name;
  std::int64_t batch = 0;
  bool training = false;
  bool reorder_input = false;
  Shape input;  // with the batch in front
  std::vector<Node> nodes;
  std::size_t lowest_trainable = 0;  // backward ends here; nodes.size() when everything is frozen
  Scratch scratch;
  AlignedBuffer<float> images;               // the input, channels last
  std::vector<AlignedBuffer<float>> values;  // outputs: one for each layer to train, two in turn to evaluate
  AlignedBuffer<float> grad_a, grad_b;       // gradients of activations, in turn
  std::span<const float> first_input;        // what the first node read in the last forward
};

Network::Impl::Impl(const ModelSpec& given, std::int64_t batch_size, const NetworkOptions& options)
    : batch(batch_size), training(options.training) {
  if (batch < 1) throw Error("a network's batch needs at least one sample").got(std::to_string(batch));
  ModelSpec spec = given;
  name_layers(spec);
  name = spec.name;
  input = spec.input.with_batch(batch);
  make_nodes(spec, options);
  set_up(options);
  scratch.allocate();
  plan_memory();
}

void Network::Impl::make_nodes(const ModelSpec& spec, const NetworkOptions& options) {
  check_model(spec);
  Shape shape = spec.input;
  for (const auto& layer : spec.layers) {
    // The caller's images are row-major, as flatten would make them.
    if (nodes.empty() && layer.kind == "flatten") {
      shape = Shape{shape.elements()};
      continue;
    }
    if (!nodes.empty() && nodes.back().layer->absorb(layer)) {
      shape = nodes.back().layer->output_shape(nodes.back().input.without_batch());
      nodes.back().output = shape.with_batch(batch);
      continue;
    }
    Node node;
    node.name = layer.name;
    node.layer = make_layer(layer);
    node.input = shape.with_batch(batch);
    for (const auto& tensor : node.layer->parameters(shape)) {
      node.tensors.push_back(layer.name + "." + tensor.name);
      node.tensor_sizes.push_back(tensor.shape.elements());
    }
    node.trainable = !node.tensors.empty() && (!options.trainable || options.trainable(layer.name));
    shape = node.layer->output_shape(shape);
    node.output = shape.with_batch(batch);
    node.state.resize(node.tensors.size());
    node.gradients.resize(node.tensors.size());
    nodes.push_back(std::move(node));
  }
  if (!nodes.empty()) reorder_input = needs_reorder(nodes.front().input.without_batch());
}

void Network::Impl::set_up(const NetworkOptions& options) {
  const auto lowest = std::find_if(nodes.begin(), nodes.end(), [](const Node& n) { return n.trainable; });
  lowest_trainable = static_cast<std::size_t>(lowest - nodes.begin());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    try {
      nodes[i].layer->setup({.input = nodes[i].input,
                             .training = options.training,
                             .trainable = nodes[i].trainable,
                             .need_input_gradient = options.training && i > lowest_trainable,
                             .tail = options.tail,
                             .scratch = &scratch});
    } catch (Error& e) {
      e.at(fmt::format("model '{}': layer '{}'", name, nodes[i].name));
      throw;
    }
  }
}

// Training keeps every output for backward; evaluation needs only the last one, so two buffers in turn are
// enough. Gradients of activations live from one layer to the next: two buffers in turn.
void Network::Impl::plan_memory() {
  if (reorder_input) images = AlignedBuffer<float>(elements(input));
  std::size_t largest = 0;
  for (const auto& node : nodes) largest = std::max(largest, elements(node.output));
  if (!training) {
    for (int i = 0; i < 2; ++i) values.emplace_back(largest);
  }
  std::size_t turn = 0;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    auto& node = nodes[i];
    const std::size_t size = elements(node.output);
    if (i > 0 && node.layer->in_place()) {  // the caller's input is not ours to overwrite
      node.value = nodes[i - 1].value.first(size);
    } else if (training) {
      node.value = values.emplace_back(size).span();
    } else {
      node.value = values[turn].span().first(size);
      turn = 1 - turn;
    }
  }
  if (!training) return;
  std::size_t largest_gradient = 0;
  for (std::size_t i = lowest_trainable + 1; i < nodes.size(); ++i) {
    largest_gradient = std::max(largest_gradient, elements(nodes[i].input));
  }
  grad_a = AlignedBuffer<float>(largest_gradient);
  grad_b = AlignedBuffer<float>(largest_gradient);
}

// Throws when `layout` is not this model's.
void Network::Impl::bind(const StateLayout& layout, const std::string& what) const {
  for (const auto& node : nodes) {
    for (std::size_t k = 0; k < node.tensors.size(); ++k) {
      const auto* entry = layout.find(node.tensors[k]);
      if (entry == nullptr || entry->shape.elements() != node.tensor_sizes[k]) {
        throw Error(fmt::format("the {} do not fit model '{}'", what, name))
            .expected(fmt::format("'{}' with {} values", node.tensors[k], node.tensor_sizes[k]))
            .got(entry == nullptr ? "none" : entry->shape.str());
      }
    }
  }
}

Network::Network(const ModelSpec& spec, std::int64_t batch, NetworkOptions options) {
  use_one_kernel_thread();
  impl_ = std::make_unique<Impl>(spec, batch, options);
}

Network::Network(Network&&) noexcept = default;
Network& Network::operator=(Network&&) noexcept = default;
Network::~Network() = default;

std::int64_t Network::batch() const noexcept { return impl_->batch; }

void Network::load(const StateDict& state) {
  use_one_kernel_thread();
  impl_->bind(state.layout(), "values");
  for (auto& node : impl_->nodes) {
    for (std::size_t k = 0; k < node.tensors.size(); ++k) node.state[k] = state.values(node.tensors[k]);
    node.layer->load(node.state);
  }
}

std::span<const float> Network::forward(const Pass& pass, std::span<const float> input) {
  use_one_kernel_thread();
  auto& net = *impl_;
  if (input.size() != elements(net.input)) {
    throw Error("the batch does not fit the network")
        .expected(fmt::format("{} ({} values)", net.input.str(), net.input.elements()))
        .got(fmt::format("{} values", input.size()));
  }
  std::span<const float> value = input;
  if (net.reorder_input) {
    transpose_images(input.data(), net.batch, net.input[1], net.input[2] * net.input[3], net.images.data());
    value = net.images.span();
  }
  net.first_input = value;
  for (auto& node : net.nodes) {
    node.layer->forward(pass, value, node.value);
    value = node.value;
  }
  return value;
}

void Network::backward(const Pass& pass, std::span<float> grad_output, StateDict& gradients) {
  use_one_kernel_thread();
  auto& net = *impl_;
  if (!net.training) throw Error("a network that was built for evaluation has no backward pass");
  if (net.nodes.empty()) return;
  if (grad_output.size() != net.nodes.back().value.size()) {
    throw Error("the gradient does not fit the network's output")
        .expected(fmt::format("{} values", net.nodes.back().value.size()))
        .got(fmt::format("{} values", grad_output.size()));
  }
  net.bind(gradients.layout(), "gradients");
  std::span<float> grad = grad_output;
  bool turn = false;
  for (std::size_t i = net.nodes.size(); i-- > net.lowest_trainable;) {
    auto& node = net.nodes[i];
    std::span<float> grad_input;
    if (i > net.lowest_trainable) {
      const std::size_t size = elements(node.input);
      if (node.layer->in_place()) {
        grad_input = grad.first(size);
      } else {
        grad_input = (turn ? net.grad_b : net.grad_a).span().first(size);
        turn = !turn;
      }
    }
    for (std::size_t k = 0; k < node.tensors.size() && node.trainable; ++k) {
      node.gradients[k] = gradients.values(node.tensors[k]);
    }
    const std::span<const float> input =
        i == 0 ? net.first_input : std::span<const float>(net.nodes[i - 1].value);
    node.layer->backward(pass, input, node.value, grad, grad_input, node.gradients);
    grad = grad_input;
  }
}

std::optional<std::string> Network::first_not_finite() const {
  const auto& nodes = impl_->nodes;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const auto& node = nodes[i];
    const bool state_is_finite = std::all_of(node.state.begin(), node.state.end(), all_finite);
    // In evaluation later layers have overwritten all outputs but the last.
    const bool output_is_kept = impl_->training || i + 1 == nodes.size();
    if (!state_is_finite || (output_is_kept && !all_finite(node.value))) return node.name;
  }
  return std::nullopt;
}

std::size_t Network::memory_bytes() const noexcept {
  const auto& net = *impl_;
  std::size_t floats = net.images.size() + net.grad_a.size() + net.grad_b.size();
  for (const auto& buffer : net.values) floats += buffer.size();
  return floats * sizeof(float) + net.scratch.bytes();
}

}  // namespace impart::nn

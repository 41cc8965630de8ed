#include "nn/graph.hpp"

#include <algorithm>
#include <utility>

#include "impart/core/error.hpp"
#include "impart/core/suggest.hpp"

namespace impart::nn {

namespace {

// (N, C, H, W) in row-major order is already channels last when there is one channel, or one pixel.
bool needs_reorder(const Shape& sample) {
  return sample.rank() == 3 && sample[0] > 1 && sample[1] * sample[2] > 1;
}

/// REQUIRES: layers have names.
std::size_t layer_number(const ModelSpec& spec, const std::string& name) {
  std::vector<std::string_view> known;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    if (spec.layers[i].name == name) return i;
    known.push_back(spec.layers[i].name);
  }
  auto error = Error("the model has no layer '" + name + "'", ErrorKind::kUsage);
  const auto near = suggestion(name, known);
  throw near.empty() ? std::move(error) : std::move(error).hint(near);
}

std::size_t tapped_layer(const ModelSpec& spec, const std::string& name) {
  const auto number = layer_number(spec, name);
  if (number + 1 < spec.layers.size()) return number;
  throw Error("layer '" + name + "' is the last one, whose output is the model's", ErrorKind::kUsage)
      .expected("a layer before it");
}

/// Turns a spec's layers into nodes, one after another.
class GraphBuilder {
 public:
  GraphBuilder(const ModelSpec& spec, std::int64_t batch, const NetworkOptions& options)
      : spec_(spec),
        batch_(batch),
        options_(options),
        shapes_(check_model(spec)),
        inputs_(layer_inputs(spec)),
        readers_(spec.layers.size()),
        tapped_(spec.layers.size()),
        node_of_(spec.layers.size()) {
    bool flattened = !options.inner;  // whoever reads the input flattens it
    for (std::size_t i = 0; i < spec.layers.size(); ++i) {
      for (const int from : inputs_[i]) {
        if (from >= 0) ++readers_[static_cast<std::size_t>(from)];
        if (from == kInputNode) flattened &= spec.layers[i].kind == "flatten";
      }
    }
    graph_.name = spec.name;
    graph_.input = spec.input.with_batch(batch);
    graph_.reorder_input = needs_reorder(spec.input) && !flattened && !options.inner;
    graph_.input_gradient = options.inner && options.training;
    flat_input_ = flattened;
    for (const auto& tap : options.taps) tapped_[tapped_layer(spec, tap)] = true;
  }

  Graph build() {
    for (std::size_t i = 0; i < spec_.layers.size(); ++i) {
      // The caller's images are row-major, as flatten would make them.
      if (flat_input_ && inputs_[i] == std::vector{kInputNode}) {
        node_of_[i] = kInputNode;
      } else if (!absorbed(i)) {
        add(i);
      }
    }
    for (const auto& tap : options_.taps) {
      const int node = node_of_[tapped_layer(spec_, tap)];
      graph_.taps.push_back(node);
      if (node != kInputNode) graph_.nodes[static_cast<std::size_t>(node)].tapped = true;
    }
    for (auto& node : graph_.nodes) {
      node.needs_gradient = node.trainable || std::any_of(node.inputs.begin(), node.inputs.end(),
                                                          [&](int n) { return graph_.needs_gradient(n); });
    }
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      for (const int input : graph_.nodes[i].inputs) {
        auto& readers = input == kInputNode ? graph_.input_readers
                                            : graph_.nodes[static_cast<std::size_t>(input)].readers;
        readers.push_back(static_cast<int>(i));
      }
    }
    return std::move(graph_);
  }

 private:
  [[nodiscard]] int node_of(int layer) const {
    return layer < 0 ? kInputNode : node_of_[static_cast<std::size_t>(layer)];
  }
  [[nodiscard]] const Shape& shape_of(int layer) const {
    return layer < 0 ? spec_.input : shapes_[static_cast<std::size_t>(layer)];
  }

  // Whether the latest of the nodes that layer `i` reads does its work, too: all else that the layer reads is
  // there by then.
  bool absorbed(std::size_t i) {
    const auto latest = std::max_element(inputs_[i].begin(), inputs_[i].end(),
                                         [&](int a, int b) { return node_of(a) < node_of(b); });
    const int number = node_of(*latest);
    if (number == kInputNode || readers_[static_cast<std::size_t>(*latest)] != 1) return false;
    if (tapped_[static_cast<std::size_t>(*latest)]) return false;
    auto& node = graph_.nodes[static_cast<std::size_t>(number)];
    if (!node.layer->absorb(spec_.layers[i])) return false;
    for (auto from = inputs_[i].begin(); from != inputs_[i].end(); ++from) {
      if (from == latest) continue;
      node.inputs.push_back(node_of(*from));
      node.input_shapes.push_back(shape_of(*from).with_batch(batch_));
    }
    node.output = shapes_[i].with_batch(batch_);
    node_of_[i] = number;
    return true;
  }

  void add(std::size_t i) {
    const auto& layer = spec_.layers[i];
    Node node;
    node.name = layer.name;
    node.layer = make_layer(layer);
    std::vector<Shape> samples;
    for (const int from : inputs_[i]) {
      node.inputs.push_back(node_of(from));
      samples.push_back(shape_of(from));
      node.input_shapes.push_back(samples.back().with_batch(batch_));
    }
    for (const auto& tensor : node.layer->parameters(samples)) {
      node.tensors.push_back(layer.name + "." + tensor.name);
      node.tensor_sizes.push_back(tensor.shape.elements());
      node.trainable |= tensor.kind == StateKind::kParameter &&
                        (!options_.trainable || options_.trainable(node.tensors.back()));
    }
    node.output = shapes_[i].with_batch(batch_);
    node_of_[i] = static_cast<int>(graph_.nodes.size());
    graph_.nodes.push_back(std::move(node));
  }

  const ModelSpec& spec_;
  std::int64_t batch_;
  const NetworkOptions& options_;
  std::vector<Shape> shapes_;             // of each layer's output, one sample
  std::vector<std::vector<int>> inputs_;  // of each layer: layers
  std::vector<int> readers_;              // of each layer: how many read it
  std::vector<bool> tapped_;              // of each layer
  std::vector<int> node_of_;              // of each layer: the node that computes it
  bool flat_input_ = false;
  Graph graph_;
};

}  // namespace

bool Graph::writes_gradient_first(std::size_t i, std::size_t k) const {
  const int source = nodes[i].inputs[k];
  if (source != kInputNode && nodes[static_cast<std::size_t>(source)].tapped) return false;
  const auto& readers =
      source == kInputNode ? input_readers : nodes[static_cast<std::size_t>(source)].readers;
  const int first = *std::max_element(readers.begin(), readers.end());
  const auto& mine = nodes[i].inputs;
  return first == static_cast<int>(i) &&
         std::find(mine.begin(), mine.end(), source) - mine.begin() == static_cast<std::ptrdiff_t>(k);
}

Shape layer_shape(const ModelSpec& given, const std::string& layer) {
  ModelSpec spec = given;
  name_layers(spec);
  return check_model(spec)[layer_number(spec, layer)];
}

Graph make_graph(const ModelSpec& given, std::int64_t batch, const NetworkOptions& options) {
  ModelSpec spec = given;
  name_layers(spec);
  return GraphBuilder(spec, batch, options).build();
}

}  // namespace impart::nn

// Graph: the layers of a model as a network executes them, each with what it reads and who reads it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "impart/nn/layer.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/spec.hpp"

namespace impart::nn {

/// Stands for the model's input among nodes' numbers.
inline constexpr int kInputNode = -1;

/// A layer, with the layers that it has absorbed.
struct Node {
  std::string name;
  std::unique_ptr<Layer> layer;
  std::vector<int> inputs;           ///< nodes, all earlier ones
  std::vector<int> readers;          ///< nodes that read this one; a node that reads it twice is here twice
  std::vector<Shape> input_shapes;   ///< with the batch in front
  Shape output;                      ///< with the batch in front
  std::vector<std::string> tensors;  ///< full names, in the order of Layer::parameters
  std::vector<std::int64_t> tensor_sizes;
  bool trainable = false;       ///< some of its parameters are to be trained
  bool tapped = false;          ///< its output is looked at between the passes
  bool needs_gradient = false;  ///< it or a node that it depends on is trainable: backward comes here
};

struct Graph {
  std::string name;
  Shape input;                  ///< with the batch in front
  bool reorder_input = false;   ///< the layers want the model's input channels last
  bool input_gradient = false;  ///< backward goes on to the model's input
  std::vector<int> input_readers;
  std::vector<Node> nodes;  ///< each after what it reads; the last one's output is the model's
  std::vector<int> taps;    ///< of NetworkOptions::taps: the node whose output it is

  [[nodiscard]] bool needs_gradient(int node) const {
    return node == kInputNode ? input_gradient : nodes[static_cast<std::size_t>(node)].needs_gradient;
  }
  /// Several nodes may add to the gradient of one output. True for the first of them in the backward pass:
  /// input `k` of node `i`. No node is the first where the output is tapped: what comes from there is.
  [[nodiscard]] bool writes_gradient_first(std::size_t i, std::size_t k) const;
};

/// Makes the layers, lets each absorb what it can of those after it, and finds who needs gradients. Throws
/// Error as check_model does, and for a tap that is no layer, or the last one.
Graph make_graph(const ModelSpec& spec, std::int64_t batch, const NetworkOptions& options);

}  // namespace impart::nn

// add and concat: layers that join the outputs of several others.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "impart/core/error.hpp"
#include "nn/layers/layers.hpp"

namespace impart::nn {

namespace {

void require_several(std::span<const Shape> inputs) {
  if (inputs.size() > 1) return;
  throw Error("the layer joins two or more inputs", ErrorKind::kUsage)
      .got(fmt::format("{}", inputs.size()))
      .hint("name them: from = [\"a\", \"b\"]");
}

// Joined gradients go back as they are, or are added to what another reader has left.
void pass_back(std::span<const float> from, const InputGradient& to) {
  if (!to.add) {
    std::copy(from.begin(), from.end(), to.values.begin());
    return;
  }
  for (std::size_t i = 0; i < from.size(); ++i) to.values[i] += from[i];
}

class Add final : public Layer {
 public:
  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    require_several(inputs);
    for (const auto& input : inputs) {
      if (input == inputs[0]) continue;
      throw Error("inputs of unlike shape cannot be added", ErrorKind::kUsage)
          .expected(fmt::format("{} as the first one", inputs[0].str()))
          .got(input.str())
          .hint("a conv2d with kernel 1 changes the channels of an image, its `stride` the extents");
    }
    return inputs[0];
  }

  bool absorb(const LayerSpec& next) override {
    if (next.kind != "relu") return false;
    relu_ = true;
    return true;
  }

  void setup(const Setup& /*setup*/) override {}
  [[nodiscard]] Needs needs() const override { return {.inputs = false, .output = relu_}; }
  [[nodiscard]] bool adds_gradients() const override { return true; }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    for (std::size_t i = 0; i < output.size(); ++i) output[i] = inputs[0][i] + inputs[1][i];
    for (const auto& input : inputs.subspan(2)) {
      for (std::size_t i = 0; i < output.size(); ++i) output[i] += input[i];
    }
    if (!relu_) return;
    for (float& y : output) y = y <= 0 ? 0 : y;  // keeps NaN
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    const auto grad = call.grad_output;
    if (relu_) rectify_gradient(call.output, grad);
    for (const auto& to : call.grad_inputs) {
      if (!to.values.empty()) pass_back(grad, to);
    }
  }

 private:
  bool relu_ = false;
};

// Along the channels of images, else along the features. Both are what lies next to each other in memory.
class Concat final : public Layer {
 public:
  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    require_several(inputs);
    std::vector<std::int64_t> joined(inputs[0].dims().begin(), inputs[0].dims().end());
    const std::size_t axis = joined_axis(inputs[0]);
    joined[axis] = 0;
    for (const auto& input : inputs) {
      std::vector<std::int64_t> dims(input.dims().begin(), input.dims().end());
      const auto extent = dims.size() == joined.size() ? dims[axis] : 0;
      if (extent > 0) dims[axis] = joined[axis];
      if (dims != joined) {
        throw Error("inputs that differ beyond their channels or features cannot be joined",
                    ErrorKind::kUsage)
            .expected(fmt::format("the extents of the first one, {}", inputs[0].str()))
            .got(input.str());
      }
      joined[axis] += extent;
    }
    return Shape(joined);
  }

  void setup(const Setup& setup) override {
    total_ = 0;
    for (const auto& input : setup.inputs) {
      widths_.push_back(input[joined_axis(input.without_batch()) + 1]);
      total_ += widths_.back();
    }
    rows_ = setup.inputs[0].elements() / widths_[0];
  }

  [[nodiscard]] Needs needs() const override { return {.inputs = false, .output = false}; }
  [[nodiscard]] bool adds_gradients() const override { return true; }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    float* to = output.data();
    for (std::int64_t row = 0; row < rows_; ++row) {
      for (std::size_t k = 0; k < inputs.size(); ++k) {
        to = std::copy_n(inputs[k].data() + row * widths_[k], widths_[k], to);
      }
    }
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    std::int64_t begin = 0;
    for (std::size_t k = 0; k < widths_.size(); begin += widths_[k], ++k) {
      const auto width = static_cast<std::size_t>(widths_[k]);
      const auto& to = call.grad_inputs[k];
      for (std::size_t row = 0; row < static_cast<std::size_t>(rows_) && !to.values.empty(); ++row) {
        const auto from = call.grad_output.data() + static_cast<std::int64_t>(row) * total_ + begin;
        pass_back({from, width}, {to.values.subspan(row * width, width), to.add});
      }
    }
  }

 private:
  static std::size_t joined_axis(const Shape& sample) { return sample.rank() == 3 ? 0 : sample.rank() - 1; }

  std::vector<std::int64_t> widths_;  // of each input's part of a row
  std::int64_t total_ = 0;
  std::int64_t rows_ = 0;
};

}  // namespace

std::unique_ptr<Layer> make_add(Settings& /*settings*/, const LayerContext& /*context*/) {
  return std::make_unique<Add>();
}

std::unique_ptr<Layer> make_concat(Settings& /*settings*/, const LayerContext& /*context*/) {
  return std::make_unique<Concat>();
}

}  // namespace impart::nn

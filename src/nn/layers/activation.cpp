// Activations: relu, relu6, leaky_relu, gelu, sigmoid and tanh map each value by itself, softmax each row.
#include <limits>

#include "impart/core/error.hpp"
#include "nn/kernels/kernels.hpp"
#include "nn/layers/layers.hpp"

namespace impart::nn {

namespace {

// What is not positive becomes 0, or `slope` times itself; what is above `top` becomes `top`.
class Rectify final : public Layer {
 public:
  explicit Rectify(float slope = 0, float top = std::numeric_limits<float>::infinity())
      : slope_(slope), top_(top) {}

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    return only_input(inputs);
  }
  bool absorb(const LayerSpec& next) override { return next.kind == "relu" && slope_ == 0; }
  void setup(const Setup& /*setup*/) override {}
  [[nodiscard]] bool in_place() const override { return true; }
  [[nodiscard]] Needs needs() const override { return {.inputs = false, .output = true}; }
  [[nodiscard]] bool adds_gradients() const override { return true; }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    const auto x = inputs[0];
    if (slope_ == 0) {
      for (std::size_t i = 0; i < x.size(); ++i) {
        output[i] = x[i] <= 0 ? 0 : x[i] > top_ ? top_ : x[i];  // keeps NaN
      }
    } else {
      for (std::size_t i = 0; i < x.size(); ++i) output[i] = x[i] <= 0 ? slope_ * x[i] : x[i];
    }
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    const auto y = call.output;
    const auto grad = call.grad_output;
    const auto [to, add] = call.grad_inputs[0];
    for (std::size_t i = 0; i < to.size(); ++i) {
      const float below = slope_ == 0 ? 0.0F : slope_ * grad[i];
      const float passed = y[i] > 0 ? (y[i] < top_ ? grad[i] : 0.0F) : below;
      to[i] = add ? to[i] + passed : passed;
    }
  }

 private:
  float slope_;
  float top_;
};

// A function of each value by itself, in `Kernel`, whose derivative follows from what it returned.
template <auto Kernel, float (*Derivative)(float y)>
class Squash final : public Layer {
 public:
  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    return only_input(inputs);
  }
  void setup(const Setup& /*setup*/) override {}
  [[nodiscard]] bool in_place() const override { return true; }
  [[nodiscard]] Needs needs() const override { return {.inputs = false, .output = true}; }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    (kernels().*Kernel)(static_cast<std::int64_t>(output.size()), inputs[0].data(), output.data());
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    const auto to = call.grad_inputs[0].values;
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = call.grad_output[i] * Derivative(call.output[i]);
  }
};

float sigmoid_derivative(float y) { return y * (1.0F - y); }
float tanh_derivative(float y) { return 1.0F - y * y; }

// x times the probability that a standard normal variable is below x (Hendrycks and Gimpel 2016).
class Gelu final : public Layer {
 public:
  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    return only_input(inputs);
  }
  void setup(const Setup& /*setup*/) override {}
  [[nodiscard]] bool in_place() const override { return true; }
  [[nodiscard]] Needs needs() const override { return {.inputs = true, .output = false}; }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    kernels().gelu(static_cast<std::int64_t>(output.size()), inputs[0].data(), output.data());
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    const auto to = call.grad_inputs[0].values;
    kernels().gelu_backward(static_cast<std::int64_t>(to.size()), call.inputs[0].data(),
                            call.grad_output.data(), to.data());
  }
};

// Of each row: the features of a sample, or of each step of a sequence.
class Softmax final : public Layer {
 public:
  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    const Shape& input = only_input(inputs);
    row_shape(input);
    return input;
  }
  void setup(const Setup& setup) override {
    width_ = row_shape(setup.inputs[0].without_batch()).features;
    rows_ = setup.inputs[0].elements() / width_;
  }
  [[nodiscard]] bool in_place() const override { return true; }
  [[nodiscard]] Needs needs() const override { return {.inputs = false, .output = true}; }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    for (std::int64_t row = 0; row < rows_; ++row) {
      kernels().softmax(width_, 1.0F, inputs[0].data() + row * width_, output.data() + row * width_);
    }
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    float* to = call.grad_inputs[0].values.data();
    if (to == nullptr) return;
    for (std::int64_t row = 0; row < rows_; ++row) {
      kernels().softmax_backward(width_, 1.0F, call.output.data() + row * width_,
                                 call.grad_output.data() + row * width_, to + row * width_);
    }
  }

 private:
  std::int64_t width_ = 0;
  std::int64_t rows_ = 0;
};

}  // namespace

std::unique_ptr<Layer> make_relu(Settings& /*settings*/, const LayerContext& /*context*/) {
  return std::make_unique<Rectify>();
}

std::unique_ptr<Layer> make_relu6(Settings& /*settings*/, const LayerContext& /*context*/) {
  return std::make_unique<Rectify>(0.0F, 6.0F);
}

std::unique_ptr<Layer> make_leaky_relu(Settings& settings, const LayerContext& /*context*/) {
  double slope = 0.01;
  settings.read("negative_slope", slope, below(0, 1), "factor of negative values");
  return std::make_unique<Rectify>(static_cast<float>(slope));
}

std::unique_ptr<Layer> make_gelu(Settings& /*settings*/, const LayerContext& /*context*/) {
  return std::make_unique<Gelu>();
}

std::unique_ptr<Layer> make_sigmoid(Settings& /*settings*/, const LayerContext& /*context*/) {
  return std::make_unique<Squash<&KernelTable::sigmoid, sigmoid_derivative>>();
}

std::unique_ptr<Layer> make_tanh(Settings& /*settings*/, const LayerContext& /*context*/) {
  return std::make_unique<Squash<&KernelTable::tanh, tanh_derivative>>();
}

std::unique_ptr<Layer> make_softmax(Settings& /*settings*/, const LayerContext& /*context*/) {
  return std::make_unique<Softmax>();
}

}  // namespace impart::nn

// dense: y = x W^T + b for each row of features.
#include <memory>
#include <optional>

#include "impart/core/error.hpp"
#include "nn/kernels/projection.hpp"
#include "nn/layers/layers.hpp"

namespace impart::nn {

namespace {

class Dense final : public Layer {
 public:
  explicit Dense(Settings& settings) {
    settings.require("units", units_, extents(), "output features");
    settings.read("bias", bias_, "adds a learned number to each feature");
    init_ = read_init(settings);
  }

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    const Shape& input = only_input(inputs);
    const auto rows = row_shape(input).rows;
    return input.rank() == 1 ? Shape{units_} : Shape{rows, units_};
  }

  [[nodiscard]] std::vector<ParameterSpec> parameters(std::span<const Shape> inputs) const override {
    const auto features = row_shape(only_input(inputs)).features;
    std::vector<ParameterSpec> tensors;
    tensors.push_back({"weight", {units_, features}, StateKind::kParameter, init_, features, units_});
    if (bias_) tensors.push_back(bias_of(tensors[0]));
    return tensors;
  }

  bool absorb(const LayerSpec& next) override {
    if (next.kind != "relu") return false;
    relu_ = true;
    return true;
  }

  void setup(const Setup& setup) override {
    const auto sample = row_shape(setup.inputs[0].without_batch());
    projection_.emplace(Projection::Options{.rows = setup.inputs[0][0] * sample.rows,
                                            .width = sample.features,
                                            .outputs = units_,
                                            .shards = setup.shards,
                                            .bias = bias_,
                                            .relu = relu_,
                                            .data_gradient = setup.training && setup.need_input_gradient[0],
                                            .weight_gradient = setup.training && setup.trainable},
                        *setup.scratch);
  }

  void load(std::span<const std::span<const float>> state) override {
    projection_->load(state[0].data(), bias_ ? state[1].data() : nullptr);
  }

  [[nodiscard]] Needs needs() const override { return {.inputs = true, .output = relu_}; }
  [[nodiscard]] Work work_of_pass() const override { return projection_->work(); }
  [[nodiscard]] bool adds_gradients() const override { return true; }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    projection_->forward(inputs[0].data(), output.data());
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    const auto grad = call.grad_output;
    if (relu_) rectify_gradient(call.output, grad);
    if (!call.gradients[0].empty()) {
      projection_->weight_gradient(call.inputs[0].data(), grad.data(), call.gradients[0].data(),
                                   bias_ ? call.gradients[1].data() : nullptr);
    }
    const auto& to = call.grad_inputs[0];
    if (!to.values.empty()) projection_->data_gradient(grad.data(), to.values.data(), to.add);
  }

 private:
  std::int64_t units_ = 1;
  bool bias_ = true;
  Init init_ = Init::kHe;
  bool relu_ = false;
  std::optional<Projection> projection_;
};

}  // namespace

std::unique_ptr<Layer> make_dense(Settings& settings, const LayerContext& /*context*/) {
  return std::make_unique<Dense>(settings);
}

}  // namespace impart::nn

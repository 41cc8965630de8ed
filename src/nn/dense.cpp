// dense: y = x W^T + b for each row of features, a convolution of images of one pixel.
#include <array>
#include <memory>

#include "impart/core/error.hpp"
#include "nn/gemm_convolution.hpp"
#include "nn/layers.hpp"
#include "nn/settings.hpp"

namespace impart::nn {

namespace {

class Dense final : public Layer {
 public:
  explicit Dense(const LayerSpec& spec) {
    static constexpr std::array<std::string_view, 3> known{"units", "bias", "init"};
    const Settings settings(spec, known);
    units_ = settings.integer("units", 1, kMaxExtent);
    bias_ = settings.flag_or("bias", true);
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
    const ConvGeometry g{.batch = setup.inputs[0][0] * sample.rows,
                         .channels = sample.features,
                         .height = 1,
                         .width = 1,
                         .filters = units_,
                         .out_height = 1,
                         .out_width = 1,
                         .window = {},
                         .shards = setup.shards};
    const ConvOptions options{.bias = bias_, .relu = relu_};
    const int directions = (setup.need_input_gradient[0] ? 1 : 0) + (setup.trainable ? 1 : 0);
    work_ = {"gemm", g.flops(), setup.training ? directions * g.flops() : 0};
    forward_ = make_gemm_forward(g, options, *setup.scratch);
    if (setup.training && setup.need_input_gradient[0]) {
      backward_data_ = make_gemm_backward_data(g, options, *setup.scratch);
    }
    if (setup.training && setup.trainable) {
      backward_weights_ = make_gemm_backward_weights(g, options, *setup.scratch);
    }
  }

  void load(std::span<const std::span<const float>> state) override {
    forward_->load(state[0].data(), bias_ ? state[1].data() : nullptr);
    if (backward_data_) backward_data_->load(state[0].data());
  }

  [[nodiscard]] Needs needs() const override { return {.inputs = true, .output = relu_}; }
  [[nodiscard]] Work work_of_pass() const override { return work_; }
  [[nodiscard]] bool adds_gradients() const override { return true; }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    forward_->run(inputs[0].data(), output.data());
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    const auto grad = call.grad_output;
    if (relu_) rectify_gradient(call.output, grad);
    if (!call.gradients[0].empty()) {
      backward_weights_->run(call.inputs[0].data(), grad.data(), call.gradients[0].data(),
                             bias_ ? call.gradients[1].data() : nullptr);
    }
    const auto& to = call.grad_inputs[0];
    if (!to.values.empty()) backward_data_->run(grad.data(), to.values.data(), to.add);
  }

 private:
  std::int64_t units_ = 0;
  bool bias_ = true;
  Init init_ = Init::kHe;
  bool relu_ = false;
  Work work_;
  std::unique_ptr<ConvForward> forward_;
  std::unique_ptr<ConvBackwardData> backward_data_;
  std::unique_ptr<ConvBackwardWeights> backward_weights_;
};

}  // namespace

std::unique_ptr<Layer> make_dense(const LayerSpec& spec) { return std::make_unique<Dense>(spec); }

}  // namespace impart::nn

// conv2d: cross-correlation with square kernels; takes over a rectifier and a max pooling that follow it.
#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "nn/convolution.hpp"
#include "nn/kernels.hpp"
#include "nn/layers.hpp"
#include "nn/pooled_conv.hpp"
#include "nn/settings.hpp"

namespace impart::nn {

namespace {

class Conv2d final : public Layer {
 public:
  explicit Conv2d(const LayerSpec& spec) {
    static constexpr std::array<std::string_view, 6> known{"filters", "kernel", "stride",
                                                           "padding", "bias",   "init"};
    const Settings settings(spec, known);
    filters_ = settings.integer("filters", 1, kMaxExtent);
    window_.kernel = settings.integer("kernel", 1, kMaxKernel);
    window_.stride = settings.integer_or("stride", 1, 1, kMaxKernel);
    window_.padding = settings.integer_or("padding", 0, 0, kMaxKernel);
    bias_ = settings.flag_or("bias", true);
    init_ = read_init(settings);
  }

  [[nodiscard]] Shape output_shape(const Shape& input) const override {
    const Shape shape = window_output(window_, image_shape(input), filters_);
    return pool_ ? window_output(*pool_, image_shape(shape), filters_) : shape;
  }

  [[nodiscard]] std::vector<ParameterSpec> parameters(const Shape& input) const override {
    const std::int64_t channels = image_shape(input).channels;
    const std::int64_t taps = window_.kernel * window_.kernel;
    std::vector<ParameterSpec> tensors;
    tensors.push_back({"weight",
                       {filters_, channels, window_.kernel, window_.kernel},
                       StateKind::kParameter,
                       init_,
                       channels * taps,
                       filters_ * taps});
    if (bias_) tensors.push_back({"bias", {filters_}});
    return tensors;
  }

  // max(relu(x)) = relu(max(x)), so the order of the two does not matter, and one pass over the pooled values
  // does for both.
  bool absorb(const LayerSpec& next) override {
    if (next.kind == "relu") {
      relu_ = true;
      return true;
    }
    if (next.kind == "max_pool2d" && !pool_) {
      pool_ = read_pool_window(next);
      return true;
    }
    return false;
  }

  void setup(const Setup& setup) override;
  void load(std::span<const std::span<const float>> state) override;
  void forward(const Pass& pass, std::span<const float> input, std::span<float> output) override;
  void backward(const Pass& pass, std::span<const float> input, std::span<const float> output,
                std::span<float> grad_output, std::span<float> grad_input,
                std::span<const std::span<float>> gradients) override;

 private:
  void set_up_pooling(const Setup& setup);
  // The image between convolution and pooling, or its gradient: in the scratch, behind what the
  // convolution uses there.
  [[nodiscard]] float* image() const { return reinterpret_cast<float*>(scratch_->data() + image_offset_); }

  std::int64_t filters_ = 0;
  Window window_;
  bool bias_ = true;
  Init init_ = Init::kHe;
  bool relu_ = false;
  std::optional<Window> pool_;

  ConvGeometry geometry_;
  PoolGeometry pooling_;
  // Who computes: few_taps_ all alone, or forward_ with winner_ or the other two for the backward pass.
  std::optional<FewTapsConv> few_taps_;
  std::optional<WinnerConv> winner_;
  std::unique_ptr<ConvForward> forward_;
  std::unique_ptr<ConvBackwardData> backward_data_;
  std::unique_ptr<ConvBackwardWeights> backward_weights_;
  std::vector<std::uint8_t> winners_;  // place of each maximum in its window
  Scratch* scratch_ = nullptr;
  std::size_t image_offset_ = 0;
};

void Conv2d::setup(const Setup& setup) {
  const auto image = image_shape(setup.input.without_batch());
  geometry_ = {.batch = setup.input[0],
               .channels = image.channels,
               .height = image.height,
               .width = image.width,
               .filters = filters_,
               .out_height = window_.output_extent(image.height),
               .out_width = window_.output_extent(image.width),
               .window = window_};
  scratch_ = setup.scratch;
  if (pool_) set_up_pooling(setup);
  if (few_taps_) return;
  const bool backward = setup.training && !winner_;
  const ConvOptions options{.bias = bias_, .relu = relu_ && !pool_};
  const auto chosen = [&](ConvDirection direction) -> const ConvCandidate& {
    return choose_convolution(geometry_, direction);
  };
  forward_ = chosen(ConvDirection::kForward).forward(geometry_, options, *scratch_);
  std::size_t used = forward_->scratch_bytes();
  if (backward && setup.need_input_gradient) {
    backward_data_ = chosen(ConvDirection::kData).data(geometry_, options, *scratch_);
    used = std::max(used, backward_data_->scratch_bytes());
  }
  if (backward && setup.trainable) {
    backward_weights_ = chosen(ConvDirection::kWeights).weights(geometry_, options, *scratch_);
    used = std::max(used, backward_weights_->scratch_bytes());
  }
  if (pool_) {
    image_offset_ = (used + kAlignment - 1) / kAlignment * kAlignment;
    const auto values = geometry_.batch * geometry_.out_height * geometry_.out_width * filters_;
    scratch_->reserve(image_offset_ + static_cast<std::size_t>(values) * sizeof(float));
  }
}

void Conv2d::set_up_pooling(const Setup& setup) {
  pooling_ = pool_geometry(*pool_, geometry_.batch, {filters_, geometry_.out_height, geometry_.out_width});
  winners_.resize(
      static_cast<std::size_t>(pooling_.batch * pooling_.out_height * pooling_.out_width * filters_));
  if (!setup.need_input_gradient && FewTapsConv::serves(geometry_, pooling_)) {
    few_taps_.emplace(geometry_, pooling_, relu_);
  } else if (setup.training && WinnerConv::serves(geometry_, pooling_)) {
    winner_.emplace(geometry_, pooling_);
  }
}

void Conv2d::load(std::span<const std::span<const float>> state) {
  const float* weight = state[0].data();
  const float* bias = bias_ ? state[1].data() : nullptr;
  if (few_taps_) few_taps_->load(weight, bias);
  if (winner_) winner_->load(weight);
  if (forward_) forward_->load(weight, bias);
  if (backward_data_) backward_data_->load(weight);
}

void Conv2d::forward(const Pass& /*pass*/, std::span<const float> input, std::span<float> output) {
  if (few_taps_) {
    few_taps_->forward(input.data(), output.data(), winners_.data());
  } else if (pool_) {
    forward_->run(input.data(), image());
    kernels().max_pool_forward(pooling_, relu_, image(), output.data(), winners_.data());
  } else {
    forward_->run(input.data(), output.data());
  }
}

void Conv2d::backward(const Pass& /*pass*/, std::span<const float> input, std::span<const float> output,
                      std::span<float> grad_output, std::span<float> grad_input,
                      std::span<const std::span<float>> gradients) {
  float* grad_weight = gradients[0].empty() ? nullptr : gradients[0].data();
  float* grad_bias = bias_ && grad_weight != nullptr ? gradients[1].data() : nullptr;
  float* grad_x = grad_input.empty() ? nullptr : grad_input.data();
  if (few_taps_) {
    few_taps_->backward(input.data(), grad_output.data(), winners_.data(), grad_weight, grad_bias);
    return;
  }
  if (winner_) {
    winner_->backward(input.data(), grad_output.data(), winners_.data(), grad_weight, grad_bias, grad_x);
    return;
  }
  const float* grad = grad_output.data();
  if (pool_) {
    kernels().max_pool_backward(pooling_, grad_output.data(), winners_.data(), image());
    grad = image();
  } else if (relu_) {
    for (std::size_t i = 0; i < grad_output.size(); ++i) grad_output[i] = output[i] > 0 ? grad_output[i] : 0;
  }
  if (grad_weight != nullptr) backward_weights_->run(input.data(), grad, grad_weight, grad_bias);
  if (grad_x != nullptr) backward_data_->run(grad, grad_x, false);
}

}  // namespace

std::unique_ptr<Layer> make_conv2d(const LayerSpec& spec) { return std::make_unique<Conv2d>(spec); }

}  // namespace impart::nn

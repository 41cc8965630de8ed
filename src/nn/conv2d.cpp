// conv2d: cross-correlation with square kernels; takes over a rectifier and a max pooling that follow it.
#include <array>
#include <optional>
#include <vector>

#include "nn/conv_primitives.hpp"
#include "nn/kernels.hpp"
#include "nn/layers.hpp"
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

  // max(relu(x)) = relu(max(x)), so the order of the two does not matter, and one pass over the pooled values does for
  // both.
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
  void load(std::span<const std::span<const float>> state) override {
    primitives_->load(state[0].data(), bias_ ? state[1].data() : nullptr);
  }
  void forward(const Pass& pass, std::span<const float> input, std::span<float> output) override;
  void backward(const Pass& pass, std::span<const float> input, std::span<const float> output,
                std::span<float> grad_output, std::span<float> grad_input,
                std::span<const std::span<float>> gradients) override;

 private:
  std::int64_t filters_ = 0;
  Window window_;
  bool bias_ = true;
  Init init_ = Init::kHe;
  bool relu_ = false;
  std::optional<Window> pool_;

  ConvGeometry geometry_;
  PoolGeometry pooling_;
  std::unique_ptr<ConvPrimitives> primitives_;
  AlignedBuffer<float> image_;         // (N, OH, OW, O): before pooling; in backward, its gradient
  std::vector<std::uint8_t> winners_;  // place of each maximum in its window
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
  if (pool_) {
    pooling_ = pool_geometry(*pool_, geometry_.batch, {filters_, geometry_.out_height, geometry_.out_width});
    const auto pixels =
        static_cast<std::size_t>(geometry_.batch * geometry_.out_height * geometry_.out_width);
    image_ = AlignedBuffer<float>(pixels * static_cast<std::size_t>(filters_));
    winners_.resize(
        static_cast<std::size_t>(pooling_.batch * pooling_.out_height * pooling_.out_width * filters_));
  }
  const ConvBuild build{.bias = bias_,
                        .relu = relu_ && !pool_,
                        .backward_data = setup.training && setup.need_input_gradient,
                        .backward_weights = setup.training && setup.trainable};
  primitives_ = std::make_unique<ConvPrimitives>(geometry_, build, *setup.scratch);
}

void Conv2d::forward(const Pass& /*pass*/, std::span<const float> input, std::span<float> output) {
  if (!pool_) {
    primitives_->forward(input.data(), output.data());
    return;
  }
  primitives_->forward(input.data(), image_.data());
  kernels().max_pool_forward(pooling_, relu_, image_.data(), output.data(), winners_.data());
}

void Conv2d::backward(const Pass& /*pass*/, std::span<const float> input, std::span<const float> output,
                      std::span<float> grad_output, std::span<float> grad_input,
                      std::span<const std::span<float>> gradients) {
  const float* grad = grad_output.data();
  if (pool_) {
    kernels().max_pool_backward(pooling_, grad_output.data(), winners_.data(), image_.data());
    grad = image_.data();
  } else if (relu_) {
    for (std::size_t i = 0; i < grad_output.size(); ++i) grad_output[i] = output[i] > 0 ? grad_output[i] : 0;
  }
  if (!gradients[0].empty()) {
    primitives_->backward_weights(input.data(), grad, gradients[0].data(),
                                  bias_ ? gradients[1].data() : nullptr);
  }
  if (!grad_input.empty()) primitives_->backward_data(grad, grad_input.data());
}

}  // namespace

std::unique_ptr<Layer> make_conv2d(const LayerSpec& spec) { return std::make_unique<Conv2d>(spec); }

}  // namespace impart::nn

// conv2d: cross-correlation with square kernels; takes over a rectifier and a max pooling that follow it.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/core/summation_tree.hpp"
#include "nn/kernels/convolution.hpp"
#include "nn/kernels/kernels.hpp"
#include "nn/kernels/pooled_conv.hpp"
#include "nn/layers/layers.hpp"

namespace impart::nn {

namespace {

class Conv2d final : public Layer {
 public:
  explicit Conv2d(Settings& settings) {
    settings.require("filters", filters_, extents(), "output channels");
    settings.require("kernel", window_.kernel, kernel_extents(), "height and width of the kernel");
    settings.read("stride", window_.stride, kernel_extents(), "pixels from one output to the next");
    settings.read("padding", window_.padding, between(0, static_cast<double>(kMaxKernel)),
                  "zeros on each side of the image");
    settings.read("dilation", window_.dilation, kernel_extents(), "pixels from one tap to the next");
    settings.read("groups", groups_, extents(), "parts of the channels that do not mix");
    settings.read("bias", bias_, "adds a learned number to each channel");
    init_ = read_init(settings);
  }

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    const auto image = image_shape(only_input(inputs));
    check_groups(image.channels);
    const Shape shape = window_output(window_, image, filters_);
    return pool_ ? window_output(*pool_, image_shape(shape), filters_) : shape;
  }

  [[nodiscard]] std::vector<ParameterSpec> parameters(std::span<const Shape> inputs) const override {
    // Fans as PyTorch counts them: of one group's channels, and of all filters.
    const std::int64_t channels = image_shape(only_input(inputs)).channels / groups_;
    const std::int64_t taps = window_.kernel * window_.kernel;
    std::vector<ParameterSpec> tensors;
    tensors.push_back({"weight",
                       {filters_, channels, window_.kernel, window_.kernel},
                       StateKind::kParameter,
                       init_,
                       channels * taps,
                       filters_ * taps});
    if (bias_) tensors.push_back(bias_of(tensors[0]));
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
      pool_ = max_pool_window(next);
      return true;
    }
    return false;
  }

  void setup(const Setup& setup) override;
  void load(std::span<const std::span<const float>> state) override;
  [[nodiscard]] Needs needs() const override { return {.inputs = true, .output = relu_ && !pool_}; }
  [[nodiscard]] bool adds_gradients() const override { return !pool_; }
  [[nodiscard]] Work work_of_pass() const override { return work_; }
  void forward(const Pass& pass, Inputs inputs, std::span<float> output) override;
  void backward(const Pass& pass, const Backward& call) override;

 private:
  void check_groups(std::int64_t channels) const;
  void set_up_pooling(const Setup& setup);
  void backward_pooled(const Backward& call);
  // The image between convolution and pooling, or its gradient: in the scratch, behind what the
  // convolution uses there.
  [[nodiscard]] float* image() const { return reinterpret_cast<float*>(scratch_->data() + image_offset_); }

  std::int64_t filters_ = 1;
  Window window_;
  std::int64_t groups_ = 1;
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
  Kept<std::uint8_t> winners_;  // place of each maximum in its window
  Scratch* scratch_ = nullptr;
  std::size_t image_offset_ = 0;
  Work work_;
};

void Conv2d::check_groups(std::int64_t channels) const {
  if (channels % groups_ == 0 && filters_ % groups_ == 0) return;
  throw Error("`groups` does not divide the channels", ErrorKind::kUsage)
      .expected("a divisor of the input's channels and of `filters`")
      .got(fmt::format("{} groups of {} channels and {} filters", groups_, channels, filters_));
}

void Conv2d::setup(const Setup& setup) {
  const auto image = image_shape(setup.inputs[0].without_batch());
  geometry_ = {.batch = setup.inputs[0][0],
               .channels = image.channels,
               .height = image.height,
               .width = image.width,
               .filters = filters_,
               .out_height = window_.output_extent(image.height),
               .out_width = window_.output_extent(image.width),
               .window = window_,
               .groups = groups_,
               .shards = setup.shards};
  scratch_ = setup.scratch;
  const int directions = (setup.need_input_gradient[0] ? 1 : 0) + (setup.trainable ? 1 : 0);
  work_ = {.forward = geometry_.flops(), .backward = setup.training ? directions * geometry_.flops() : 0};
  if (pool_) set_up_pooling(setup);
  if (few_taps_) {
    work_.kernels = "few_taps";
    return;
  }
  const bool backward = setup.training && !winner_;
  const ConvOptions options{.bias = bias_, .relu = relu_ && !pool_};
  const auto chosen = [&](ConvDirection direction) -> const ConvCandidate& {
    const auto& candidate = choose_convolution(geometry_, direction);
    work_.kernels += fmt::format("{}{}", work_.kernels.empty() ? "" : ", ", candidate.name);
    return candidate;
  };
  forward_ = chosen(ConvDirection::kForward).forward(geometry_, options, *scratch_);
  std::size_t used = forward_->scratch_bytes();
  if (backward && setup.need_input_gradient[0]) {
    backward_data_ = chosen(ConvDirection::kData).data(geometry_, options, *scratch_);
    used = std::max(used, backward_data_->scratch_bytes());
  }
  if (backward && setup.trainable) {
    backward_weights_ = chosen(ConvDirection::kWeights).weights(geometry_, options, *scratch_);
    used = std::max(used, backward_weights_->scratch_bytes());
  }
  if (winner_) work_.kernels += ", winners";
  if (pool_) {
    image_offset_ = (used + kAlignment - 1) / kAlignment * kAlignment;
    const auto values = geometry_.batch * geometry_.out_height * geometry_.out_width * filters_;
    scratch_->reserve(image_offset_ + static_cast<std::size_t>(values) * sizeof(float));
  }
}

void Conv2d::set_up_pooling(const Setup& setup) {
  pooling_ = pool_geometry(*pool_, geometry_.batch, {filters_, geometry_.out_height, geometry_.out_width});
  setup.keep(winners_,
             static_cast<std::size_t>(pooling_.batch * pooling_.out_height * pooling_.out_width * filters_));
  // These sum over the images that they are given: one shard.
  auto shard = geometry_;
  shard.batch /= setup.shards;
  auto shard_pooling = pooling_;
  shard_pooling.batch = shard.batch;
  if (!setup.need_input_gradient[0] && FewTapsConv::serves(geometry_, pooling_)) {
    few_taps_.emplace(shard, shard_pooling, relu_, *scratch_);
  } else if (setup.training && WinnerConv::serves(geometry_, pooling_)) {
    winner_.emplace(shard, shard_pooling, *scratch_);
  }
  if (few_taps_ || winner_) {
    const auto floats = ShardTree::partial_floats(setup.shards, filters_ * geometry_.taps()) +
                        ShardTree::partial_floats(setup.shards, filters_);
    scratch_->reserve(static_cast<std::size_t>(floats) * sizeof(float));
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

void Conv2d::forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) {
  const float* x = inputs[0].data();
  if (few_taps_) {
    const auto pooled = static_cast<std::int64_t>(output.size()) / geometry_.shards;
    for (std::int64_t s = 0; s < geometry_.shards; ++s) {
      few_taps_->forward(x + s * geometry_.shard_input(), output.data() + s * pooled,
                         winners_.data() + s * pooled);
    }
  } else if (pool_) {
    forward_->run(x, image());
    kernels().max_pool_forward(pooling_, relu_, image(), output.data(), winners_.data());
  } else {
    forward_->run(x, output.data());
  }
}

void Conv2d::backward(const Pass& /*pass*/, const Backward& call) {
  if (few_taps_ || winner_) {
    backward_pooled(call);
    return;
  }
  const float* grad = call.grad_output.data();
  if (pool_) {
    kernels().max_pool_backward(pooling_, grad, winners_.data(), image());
    grad = image();
  } else if (relu_) {
    rectify_gradient(call.output, call.grad_output);
  }
  if (!call.gradients[0].empty()) {
    backward_weights_->run(call.inputs[0].data(), grad, call.gradients[0].data(),
                           bias_ ? call.gradients[1].data() : nullptr);
  }
  const auto& to = call.grad_inputs[0];
  if (!to.values.empty()) backward_data_->run(grad, to.values.data(), to.add);
}

// Shard by shard, for these kernels sum over all that they are given.
void Conv2d::backward_pooled(const Backward& call) {
  const std::int64_t weights = filters_ * geometry_.taps();
  const bool trains = !call.gradients[0].empty();
  auto* partial = reinterpret_cast<float*>(scratch_->data());
  ShardTree weight(weights, call.gradients[0].data(), partial);
  ShardTree bias(filters_, bias_ ? call.gradients[1].data() : nullptr,
                 partial + ShardTree::partial_floats(geometry_.shards, weights));
  const auto pooled = static_cast<std::int64_t>(call.output.size()) / geometry_.shards;
  const auto to = call.grad_inputs[0].values;
  for (std::int64_t s = 0; s < geometry_.shards; ++s) {
    const float* x = call.inputs[0].data() + s * geometry_.shard_input();
    const float* grad = call.grad_output.data() + s * pooled;
    const std::uint8_t* winners = winners_.data() + s * pooled;
    float* grad_weight = trains ? weight.next() : nullptr;
    float* grad_bias = trains && bias_ ? bias.next() : nullptr;
    if (few_taps_) {
      few_taps_->backward(x, grad, winners, grad_weight, grad_bias);
    } else {
      winner_->backward(x, grad, winners, grad_weight, grad_bias,
                        to.empty() ? nullptr : to.data() + s * geometry_.shard_input());
    }
    if (trains) weight.put();
    if (trains && bias_) bias.put();
  }
}

}  // namespace

std::unique_ptr<Layer> make_conv2d(Settings& settings, const LayerContext& /*context*/) {
  return std::make_unique<Conv2d>(settings);
}

}  // namespace impart::nn

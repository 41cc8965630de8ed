// batch_norm (Ioffe and Szegedy 2015), over channels of images or over features.
#include <array>
#include <cmath>
#include <vector>

#include "impart/core/error.hpp"
#include "nn/layers.hpp"
#include "nn/settings.hpp"
#include "nn/shard_tree.hpp"

namespace impart::nn {

namespace {

// Images are channels last, so both (N, C, H, W) and (N, F) are a table of rows x channels here.
class BatchNorm final : public Layer {
 public:
  explicit BatchNorm(const LayerSpec& spec) {
    static constexpr std::array<std::string_view, 2> known{"momentum", "epsilon"};
    const Settings settings(spec, known);
    momentum_ = settings.number_or("momentum", 0.1, 0, 1.0 + 1e-9);
    epsilon_ = settings.number_or("epsilon", 1e-5, 1e-12, 1);
  }

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    const Shape& input = only_input(inputs);
    if (input.rank() != 1 && input.rank() != 3) {
      throw Error("the input does not fit", ErrorKind::kUsage)
          .expected("an image of channels x height x width, or a list of features")
          .got(input.str());
    }
    return input;
  }

  [[nodiscard]] std::vector<ParameterSpec> parameters(std::span<const Shape> inputs) const override {
    const Shape shape{only_input(inputs)[0]};
    return {{"weight", shape, StateKind::kParameter, Init::kOnes},
            {"bias", shape, StateKind::kParameter, Init::kZeros},
            {"running_mean", shape, StateKind::kBuffer, Init::kZeros},
            {"running_var", shape, StateKind::kBuffer, Init::kOnes}};
  }

  bool absorb(const LayerSpec& next) override {
    if (next.kind != "relu") return false;
    relu_ = true;
    return true;
  }

  void setup(const Setup& setup) override {
    const Shape& input = setup.inputs[0];
    channels_ = static_cast<std::size_t>(input[1]);
    rows_ = static_cast<std::size_t>(input.elements() / setup.shards) / channels_;
    trainable_ = setup.trainable;
    if (setup.training && trainable_ && rows_ < 2 && !setup.tail) {
      throw Error("batch statistics need at least 2 values a channel", ErrorKind::kUsage)
          .got("a shard of one sample")
          .hint("raise `batch_size`, lower `shards`, or freeze the layer");
    }
    shards_.resize(static_cast<std::size_t>(setup.shards));
    for (auto& shard : shards_) {
      for (auto* values : {&shard.mean, &shard.variance, &shard.scale, &shard.shift, &shard.inverse}) {
        values->resize(channels_);
      }
      for (auto* sums : {&shard.grad_sum, &shard.weighted_sum}) sums->resize(channels_);
    }
    work_.resize(static_cast<std::size_t>(ShardTree::partial_floats(setup.shards, input[1])));
  }

  void load(std::span<const std::span<const float>> state) override {
    weight_ = state[0];
    bias_ = state[1];
    running_mean_ = state[2];
    running_variance_ = state[3];
  }

  [[nodiscard]] Needs needs() const override { return {.inputs = true, .output = relu_}; }

  void forward(const Pass& pass, Inputs inputs, std::span<float> output) override {
    of_batch_ = pass.training && trainable_ && rows_ > 1;
    const std::size_t part = rows_ * channels_;
    for (std::size_t s = 0; s < shards_.size(); ++s) {
      forward_shard(shards_[s], inputs[0].subspan(s * part, part), output.subspan(s * part, part));
    }
  }

  void backward(const Pass& pass, const Backward& call) override {
    const std::size_t part = rows_ * channels_;
    for (std::size_t s = 0; s < shards_.size(); ++s) {
      const auto grad_output = call.grad_output.subspan(s * part, part);
      const auto x = call.inputs[0].subspan(s * part, part);
      if (relu_) cut_off(call.output.subspan(s * part, part), grad_output);
      sum_gradients(shards_[s], x, grad_output);
      if (call.grad_inputs[0].values.empty()) continue;
      write_input_gradient(shards_[s], x, grad_output, call.grad_inputs[0].values.subspan(s * part, part));
    }
    if (!call.gradients[0].empty()) write_gradients(pass, call.gradients);
  }

 private:
  /// Statistics of one shard in the last forward, and sums of the backward pass; each (C).
  struct ShardState {
    std::vector<float> mean, variance;
    std::vector<float> scale, shift, inverse;    // y = scale x + shift
    std::vector<double> grad_sum, weighted_sum;  // over rows: gradient, gradient times normalised input
  };

  void forward_shard(ShardState& shard, std::span<const float> input, std::span<float> output) const;
  void measure(ShardState& shard, std::span<const float> input) const;
  static void cut_off(std::span<const float> output, std::span<float> grad_output);
  void sum_gradients(ShardState& shard, std::span<const float> input, std::span<const float> grad) const;
  void write_input_gradient(const ShardState& shard, std::span<const float> input,
                            std::span<const float> grad, std::span<float> grad_input) const;
  void write_gradients(const Pass& pass, std::span<const std::span<float>> gradients);

  double momentum_ = 0.1;
  double epsilon_ = 1e-5;
  bool relu_ = false;
  bool trainable_ = true;
  bool of_batch_ = false;  // whether the last forward used each shard's own statistics
  std::size_t rows_ = 0;   // of a shard
  std::size_t channels_ = 0;
  std::span<const float> weight_, bias_, running_mean_, running_variance_;  // (C), in the caller's state
  std::vector<ShardState> shards_;
  std::vector<float> work_;
};

void BatchNorm::forward_shard(ShardState& shard, std::span<const float> input,
                              std::span<float> output) const {
  if (of_batch_) {
    measure(shard, input);
  } else {
    std::copy(running_mean_.begin(), running_mean_.end(), shard.mean.begin());
    std::copy(running_variance_.begin(), running_variance_.end(), shard.variance.begin());
  }
  for (std::size_t c = 0; c < channels_; ++c) {
    shard.inverse[c] = static_cast<float>(1.0 / std::sqrt(static_cast<double>(shard.variance[c]) + epsilon_));
    shard.scale[c] = weight_[c] * shard.inverse[c];
    shard.shift[c] = bias_[c] - shard.mean[c] * shard.scale[c];
  }
  for (std::size_t r = 0; r < rows_; ++r) {
    const float* x = input.data() + r * channels_;
    float* y = output.data() + r * channels_;
    for (std::size_t c = 0; c < channels_; ++c) {
      const float value = x[c] * shard.scale[c] + shard.shift[c];
      y[c] = relu_ && value <= 0 ? 0 : value;  // keeps NaN
    }
  }
}

// Two passes, in double: the difference of large sums would lose the variance of data far from zero.
void BatchNorm::measure(ShardState& shard, std::span<const float> input) const {
  const auto count = static_cast<double>(rows_);
  auto& mean = shard.grad_sum;
  auto& squares = shard.weighted_sum;
  std::fill(mean.begin(), mean.end(), 0.0);
  for (std::size_t r = 0; r < rows_; ++r) {
    const float* x = input.data() + r * channels_;
    for (std::size_t c = 0; c < channels_; ++c) mean[c] += static_cast<double>(x[c]);
  }
  for (std::size_t c = 0; c < channels_; ++c) mean[c] /= count;
  std::fill(squares.begin(), squares.end(), 0.0);
  for (std::size_t r = 0; r < rows_; ++r) {
    const float* x = input.data() + r * channels_;
    for (std::size_t c = 0; c < channels_; ++c) {
      const double difference = static_cast<double>(x[c]) - mean[c];
      squares[c] += difference * difference;
    }
  }
  for (std::size_t c = 0; c < channels_; ++c) {
    shard.mean[c] = static_cast<float>(mean[c]);
    shard.variance[c] = static_cast<float>(squares[c] / count);
  }
}

void BatchNorm::cut_off(std::span<const float> output, std::span<float> grad_output) {
  for (std::size_t i = 0; i < grad_output.size(); ++i) grad_output[i] = output[i] > 0 ? grad_output[i] : 0;
}

void BatchNorm::sum_gradients(ShardState& shard, std::span<const float> input,
                              std::span<const float> grad) const {
  std::fill(shard.grad_sum.begin(), shard.grad_sum.end(), 0.0);
  std::fill(shard.weighted_sum.begin(), shard.weighted_sum.end(), 0.0);
  for (std::size_t r = 0; r < rows_; ++r) {
    const float* x = input.data() + r * channels_;
    const float* g = grad.data() + r * channels_;
    for (std::size_t c = 0; c < channels_; ++c) {
      shard.grad_sum[c] += static_cast<double>(g[c]);
      shard.weighted_sum[c] +=
          static_cast<double>(g[c]) * static_cast<double>((x[c] - shard.mean[c]) * shard.inverse[c]);
    }
  }
}

void BatchNorm::write_input_gradient(const ShardState& shard, std::span<const float> input,
                                     std::span<const float> grad, std::span<float> grad_input) const {
  // The statistics of the batch depend on the input, too; running ones do not.
  const double share = of_batch_ ? 1.0 / static_cast<double>(rows_) : 0.0;
  for (std::size_t r = 0; r < rows_; ++r) {
    const float* x = input.data() + r * channels_;
    const float* g = grad.data() + r * channels_;
    float* to = grad_input.data() + r * channels_;
    for (std::size_t c = 0; c < channels_; ++c) {
      const float normal = (x[c] - shard.mean[c]) * shard.inverse[c];
      to[c] = shard.scale[c] * (g[c] - static_cast<float>(shard.grad_sum[c] * share) -
                                normal * static_cast<float>(shard.weighted_sum[c] * share));
    }
  }
}

// The running variance takes the unbiased variance of the batch, as PyTorch does.
void BatchNorm::write_gradients(const Pass& pass, std::span<const std::span<float>> gradients) {
  const double unbias = of_batch_ ? static_cast<double>(rows_) / static_cast<double>(rows_ - 1) : 0.0;
  const double momentum = of_batch_ ? momentum_ : 0.0;
  const auto sum = [&](std::span<float> to, auto value) {
    ShardTree tree(static_cast<std::int64_t>(channels_), to.data(), work_.data());
    for (const auto& shard : shards_) {
      float* out = tree.next();
      for (std::size_t c = 0; c < channels_; ++c) out[c] = value(shard, c);
      tree.put();
    }
  };
  const auto change = [&](double from, float to) {
    return static_cast<float>(momentum * (from - static_cast<double>(to))) * pass.shard_share;
  };
  sum(gradients[0], [](const ShardState& s, std::size_t c) { return static_cast<float>(s.weighted_sum[c]); });
  sum(gradients[1], [](const ShardState& s, std::size_t c) { return static_cast<float>(s.grad_sum[c]); });
  sum(gradients[2], [&](const ShardState& s, std::size_t c) {
    return change(static_cast<double>(s.mean[c]), running_mean_[c]);
  });
  sum(gradients[3], [&](const ShardState& s, std::size_t c) {
    return change(unbias * static_cast<double>(s.variance[c]), running_variance_[c]);
  });
}

}  // namespace

std::unique_ptr<Layer> make_batch_norm(const LayerSpec& spec) { return std::make_unique<BatchNorm>(spec); }

}  // namespace impart::nn

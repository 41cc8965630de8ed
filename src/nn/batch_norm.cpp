// batch_norm (Ioffe and Szegedy 2015), over channels of images or over features.
#include <array>
#include <cmath>
#include <vector>

#include "impart/core/error.hpp"
#include "nn/layers.hpp"
#include "nn/settings.hpp"

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

  [[nodiscard]] Shape output_shape(const Shape& input) const override {
    if (input.rank() != 1 && input.rank() != 3) {
      throw Error("the input does not fit", ErrorKind::kUsage)
          .expected("an image of channels x height x width, or a list of features")
          .got(input.str());
    }
    return input;
  }

  [[nodiscard]] std::vector<ParameterSpec> parameters(const Shape& input) const override {
    const Shape shape{input[0]};
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
    channels_ = static_cast<std::size_t>(setup.input[1]);
    rows_ = static_cast<std::size_t>(setup.input.elements()) / channels_;
    trainable_ = setup.trainable;
    if (setup.training && trainable_ && rows_ < 2 && !setup.tail) {
      throw Error("batch statistics need at least 2 values a channel", ErrorKind::kUsage)
          .got("a shard of one sample")
          .hint("raise `batch_size`, lower `shards`, or freeze the layer");
    }
    for (auto* values : {&mean_, &variance_, &scale_, &shift_, &inverse_}) values->resize(channels_);
    for (auto* sums : {&sum_, &weighted_sum_}) sums->resize(channels_);
  }

  void load(std::span<const std::span<const float>> state) override {
    weight_ = state[0];
    bias_ = state[1];
    running_mean_ = state[2];
    running_variance_ = state[3];
  }

  void forward(const Pass& pass, std::span<const float> input, std::span<float> output) override {
    of_batch_ = pass.training && trainable_ && rows_ > 1;
    if (of_batch_) {
      measure(input);
    } else {
      std::copy(running_mean_.begin(), running_mean_.end(), mean_.begin());
      std::copy(running_variance_.begin(), running_variance_.end(), variance_.begin());
    }
    for (std::size_t c = 0; c < channels_; ++c) {
      inverse_[c] = static_cast<float>(1.0 / std::sqrt(static_cast<double>(variance_[c]) + epsilon_));
      scale_[c] = weight_[c] * inverse_[c];
      shift_[c] = bias_[c] - mean_[c] * scale_[c];
    }
    apply(input, output);
  }

  void backward(const Pass& pass, std::span<const float> input, std::span<const float> output,
                std::span<float> grad_output, std::span<float> grad_input,
                std::span<const std::span<float>> gradients) override;

 private:
  void measure(std::span<const float> input);
  void apply(std::span<const float> input, std::span<float> output) const;
  void write_gradients(std::span<const std::span<float>> gradients) const;

  double momentum_ = 0.1;
  double epsilon_ = 1e-5;
  bool relu_ = false;
  bool trainable_ = true;
  bool of_batch_ = false;  // whether the last forward used the batch's own statistics
  std::size_t rows_ = 0;
  std::size_t channels_ = 0;
  std::span<const float> weight_, bias_, running_mean_, running_variance_;  // (C), in the caller's state
  std::vector<float> mean_, variance_;                                      // (C), of the last forward
  std::vector<float> scale_, shift_, inverse_;                              // (C): y = scale x + shift
  std::vector<double> sum_, weighted_sum_;                                  // (C)
};

// Two passes, in double: the difference of large sums would lose the variance of data far from zero.
void BatchNorm::measure(std::span<const float> input) {
  const auto count = static_cast<double>(rows_);
  std::fill(sum_.begin(), sum_.end(), 0.0);
  for (std::size_t r = 0; r < rows_; ++r) {
    const float* x = input.data() + r * channels_;
    for (std::size_t c = 0; c < channels_; ++c) sum_[c] += static_cast<double>(x[c]);
  }
  for (std::size_t c = 0; c < channels_; ++c) sum_[c] /= count;
  std::fill(weighted_sum_.begin(), weighted_sum_.end(), 0.0);
  for (std::size_t r = 0; r < rows_; ++r) {
    const float* x = input.data() + r * channels_;
    for (std::size_t c = 0; c < channels_; ++c) {
      const double difference = static_cast<double>(x[c]) - sum_[c];
      weighted_sum_[c] += difference * difference;
    }
  }
  for (std::size_t c = 0; c < channels_; ++c) {
    mean_[c] = static_cast<float>(sum_[c]);
    variance_[c] = static_cast<float>(weighted_sum_[c] / count);
  }
}

void BatchNorm::apply(std::span<const float> input, std::span<float> output) const {
  for (std::size_t r = 0; r < rows_; ++r) {
    const float* x = input.data() + r * channels_;
    float* y = output.data() + r * channels_;
    for (std::size_t c = 0; c < channels_; ++c) {
      const float value = x[c] * scale_[c] + shift_[c];
      y[c] = relu_ && value <= 0 ? 0 : value;  // keeps NaN
    }
  }
}

void BatchNorm::backward(const Pass& /*pass*/, std::span<const float> input, std::span<const float> output,
                         std::span<float> grad_output, std::span<float> grad_input,
                         std::span<const std::span<float>> gradients) {
  if (relu_) {
    for (std::size_t i = 0; i < grad_output.size(); ++i) grad_output[i] = output[i] > 0 ? grad_output[i] : 0;
  }
  std::fill(sum_.begin(), sum_.end(), 0.0);
  std::fill(weighted_sum_.begin(), weighted_sum_.end(), 0.0);
  for (std::size_t r = 0; r < rows_; ++r) {
    const float* x = input.data() + r * channels_;
    const float* grad = grad_output.data() + r * channels_;
    for (std::size_t c = 0; c < channels_; ++c) {
      sum_[c] += static_cast<double>(grad[c]);
      weighted_sum_[c] += static_cast<double>(grad[c]) * static_cast<double>((x[c] - mean_[c]) * inverse_[c]);
    }
  }
  if (!gradients[0].empty()) write_gradients(gradients);
  if (grad_input.empty()) return;
  // The statistics of the batch depend on the input, too; running ones do not.
  const double share = of_batch_ ? 1.0 / static_cast<double>(rows_) : 0.0;
  for (std::size_t c = 0; c < channels_; ++c) {
    sum_[c] *= share;
    weighted_sum_[c] *= share;
  }
  for (std::size_t r = 0; r < rows_; ++r) {
    const float* x = input.data() + r * channels_;
    const float* grad = grad_output.data() + r * channels_;
    float* to = grad_input.data() + r * channels_;
    for (std::size_t c = 0; c < channels_; ++c) {
      const float normal = (x[c] - mean_[c]) * inverse_[c];
      to[c] =
          scale_[c] * (grad[c] - static_cast<float>(sum_[c]) - normal * static_cast<float>(weighted_sum_[c]));
    }
  }
}

// The running variance takes the unbiased variance of the batch, as PyTorch does.
void BatchNorm::write_gradients(std::span<const std::span<float>> gradients) const {
  const double unbias = of_batch_ ? static_cast<double>(rows_) / static_cast<double>(rows_ - 1) : 0.0;
  const double momentum = of_batch_ ? momentum_ : 0.0;
  for (std::size_t c = 0; c < channels_; ++c) {
    gradients[0][c] = static_cast<float>(weighted_sum_[c]);
    gradients[1][c] = static_cast<float>(sum_[c]);
    const double mean = static_cast<double>(mean_[c]) - static_cast<double>(running_mean_[c]);
    const double variance =
        unbias * static_cast<double>(variance_[c]) - static_cast<double>(running_variance_[c]);
    gradients[2][c] = static_cast<float>(momentum * mean);
    gradients[3][c] = static_cast<float>(momentum * variance);
  }
}

}  // namespace

std::unique_ptr<Layer> make_batch_norm(const LayerSpec& spec) { return std::make_unique<BatchNorm>(spec); }

}  // namespace impart::nn

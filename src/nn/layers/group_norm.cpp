// group_norm (Wu and He 2018), over groups of channels of images, and layer_norm (Ba, Kiros and Hinton 2016),
// over the features of each row: a group norm with one group and one pixel.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/core/summation_tree.hpp"
#include "nn/layers/layers.hpp"

namespace impart::nn {

namespace {

// Images are channels last, so all inputs are a table of pixels x channels for each sample here.
class GroupNorm final : public Layer {
 public:
  /// `groups` = 0: a layer norm.
  GroupNorm(std::int64_t groups, double epsilon) : groups_(groups), epsilon_(epsilon) {}

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    const Shape& input = only_input(inputs);
    const auto channels = channels_of(input);
    if (groups_ > 0 && channels % groups_ != 0) {
      throw Error("`groups` does not divide the channels", ErrorKind::kUsage)
          .expected(fmt::format("a divisor of {}", channels))
          .got(fmt::format("{}", groups_));
    }
    return input;
  }

  [[nodiscard]] std::vector<ParameterSpec> parameters(std::span<const Shape> inputs) const override {
    const Shape shape{channels_of(only_input(inputs))};
    return {{"weight", shape, StateKind::kParameter, Init::kOnes},
            {"bias", shape, StateKind::kParameter, Init::kZeros}};
  }

  void setup(const Setup& setup) override {
    const Shape& input = setup.inputs[0];
    channels_ = static_cast<std::size_t>(channels_of(input.without_batch()));
    pixels_ = input.rank() == 4 ? static_cast<std::size_t>(input[2] * input[3]) : 1;
    samples_ = static_cast<std::size_t>(input.elements()) / (pixels_ * channels_);
    group_ = groups_ > 0 ? channels_ / static_cast<std::size_t>(groups_) : channels_;
    shards_ = setup.shards;
    for (auto* values : {&statistics_.mean, &statistics_.inverse})
      setup.keep(*values, samples_ * (channels_ / group_));
    for (auto* values : {&scale_, &mean_, &slope_, &shift_}) values->resize(channels_);
    for (auto* sums : {&first_sum_, &second_sum_, &weight_sum_, &bias_sum_}) sums->resize(channels_);
    const auto partial = ShardTree::partial_floats(shards_, static_cast<std::int64_t>(channels_));
    partial_.resize(2 * static_cast<std::size_t>(partial));
  }

  void load(std::span<const std::span<const float>> state) override {
    weight_ = state[0];
    bias_ = state[1];
  }

  [[nodiscard]] Needs needs() const override { return {.inputs = true, .output = false}; }
  [[nodiscard]] bool adds_gradients() const override { return true; }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    const std::size_t size = pixels_ * channels_;
    for (std::size_t n = 0; n < samples_; ++n) {
      forward_sample(n, inputs[0].data() + n * size, output.data() + n * size);
    }
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    const bool trains = !call.gradients[0].empty();
    const auto channels = static_cast<std::int64_t>(channels_);
    ShardTree weight(channels, call.gradients[0].data(), partial_.data());
    ShardTree bias(channels, call.gradients[1].data(), partial_.data() + partial_.size() / 2);
    const std::size_t size = pixels_ * channels_;
    const std::size_t shard = samples_ / static_cast<std::size_t>(shards_);
    for (std::size_t n = 0; n < samples_; ++n) {
      if (n % shard == 0) {
        for (auto* sums : {&weight_sum_, &bias_sum_}) std::fill(sums->begin(), sums->end(), 0.0);
      }
      sum_gradients(n, call.inputs[0].data() + n * size, call.grad_output.data() + n * size);
      const auto& to = call.grad_inputs[0];
      if (!to.values.empty()) {
        write_input_gradient(n, call.inputs[0].data() + n * size, call.grad_output.data() + n * size, to.add,
                             to.values.data() + n * size);
      }
      if (!trains || (n + 1) % shard != 0) continue;
      for (std::size_t c = 0; c < channels_; ++c) {
        weight.next()[c] = static_cast<float>(weight_sum_[c]);
        bias.next()[c] = static_cast<float>(bias_sum_[c]);
      }
      weight.put();
      bias.put();
    }
  }

 private:
  [[nodiscard]] std::int64_t channels_of(const Shape& sample) const {
    if (groups_ == 0) return row_shape(sample).features;
    if (sample.rank() == 1) return sample[0];
    return image_shape(sample).channels;
  }

  void forward_sample(std::size_t n, const float* x, float* y);
  void sum_gradients(std::size_t n, const float* x, const float* grad_y);
  void write_input_gradient(std::size_t n, const float* x, const float* grad_y, bool add, float* grad_x);

  [[nodiscard]] std::size_t statistics_at(std::size_t n, std::size_t group) const {
    return n * (channels_ / group_) + group;
  }
  /// Values that a mean is over.
  [[nodiscard]] double count() const { return static_cast<double>(pixels_ * group_); }

  // Of `group_` values, in four chains, so that additions need not wait for each other.
  [[nodiscard]] double sum_of_group(const double* values) const {
    double lanes[4] = {};
    std::size_t i = 0;
    for (; i + 4 <= group_; i += 4) {
      for (std::size_t k = 0; k < 4; ++k) lanes[k] += values[i + k];
    }
    for (; i < group_; ++i) lanes[0] += values[i];
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
  }

  std::int64_t groups_;
  double epsilon_;
  std::size_t samples_ = 0;  // of a sequence: all steps of all samples
  std::size_t pixels_ = 1;
  std::size_t channels_ = 0;
  std::size_t group_ = 0;  // channels of a group
  std::int64_t shards_ = 1;
  std::span<const float> weight_, bias_;  // (C), in the caller's state
  struct {
    Kept<float> mean, inverse;  // (N, groups), of the last forward
  } statistics_;
  std::vector<float> scale_, mean_, slope_, shift_;                     // (C), of one sample
  std::vector<double> first_sum_, second_sum_, weight_sum_, bias_sum_;  // (C)
  std::vector<float> partial_;
};

// The variance in a second pass: the difference of large sums would lose that of data far from zero.
void GroupNorm::forward_sample(std::size_t n, const float* x, float* y) {
  std::fill(first_sum_.begin(), first_sum_.end(), 0.0);
  for (std::size_t p = 0; p < pixels_; ++p) {
    for (std::size_t c = 0; c < channels_; ++c) first_sum_[c] += static_cast<double>(x[p * channels_ + c]);
  }
  for (std::size_t first = 0; first < channels_; first += group_) {
    const double mean = sum_of_group(first_sum_.data() + first) / count();
    statistics_.mean[statistics_at(n, first / group_)] = static_cast<float>(mean);
    std::fill_n(first_sum_.begin() + static_cast<std::ptrdiff_t>(first), group_, mean);
  }
  std::fill(second_sum_.begin(), second_sum_.end(), 0.0);
  for (std::size_t p = 0; p < pixels_; ++p) {
    for (std::size_t c = 0; c < channels_; ++c) {
      const double difference = static_cast<double>(x[p * channels_ + c]) - first_sum_[c];
      second_sum_[c] += difference * difference;
    }
  }
  for (std::size_t first = 0; first < channels_; first += group_) {
    const double variance = sum_of_group(second_sum_.data() + first) / count();
    const auto inverse = static_cast<float>(1.0 / std::sqrt(variance + epsilon_));
    const auto at = statistics_at(n, first / group_);
    statistics_.inverse[at] = inverse;
    for (std::size_t c = first; c < first + group_; ++c) {
      mean_[c] = statistics_.mean[at];
      scale_[c] = weight_[c] * inverse;
    }
  }
  for (std::size_t p = 0; p < pixels_; ++p) {
    for (std::size_t c = 0; c < channels_; ++c) {
      y[p * channels_ + c] = (x[p * channels_ + c] - mean_[c]) * scale_[c] + bias_[c];
    }
  }
}

// Over the pixels of a sample: the gradient, and the gradient times the normalised input.
void GroupNorm::sum_gradients(std::size_t n, const float* x, const float* grad_y) {
  for (std::size_t first = 0; first < channels_; first += group_) {
    const auto at = statistics_at(n, first / group_);
    std::fill_n(mean_.begin() + static_cast<std::ptrdiff_t>(first), group_, statistics_.mean[at]);
    std::fill_n(scale_.begin() + static_cast<std::ptrdiff_t>(first), group_, statistics_.inverse[at]);
  }
  std::fill(first_sum_.begin(), first_sum_.end(), 0.0);
  std::fill(second_sum_.begin(), second_sum_.end(), 0.0);
  for (std::size_t p = 0; p < pixels_; ++p) {
    for (std::size_t c = 0; c < channels_; ++c) {
      const float grad = grad_y[p * channels_ + c];
      const float normal = (x[p * channels_ + c] - mean_[c]) * scale_[c];
      first_sum_[c] += static_cast<double>(grad);
      second_sum_[c] += static_cast<double>(grad) * static_cast<double>(normal);
    }
  }
  for (std::size_t c = 0; c < channels_; ++c) {
    bias_sum_[c] += first_sum_[c];
    weight_sum_[c] += second_sum_[c];
  }
}

// inverse (weight g - mean(weight g) - normalised x mean(weight g normalised x)), means over the group.
// REQUIRES: sum_gradients has just been called for this sample.
void GroupNorm::write_input_gradient(std::size_t n, const float* x, const float* grad_y, bool add,
                                     float* grad_x) {
  for (std::size_t c = 0; c < channels_; ++c) {
    first_sum_[c] *= static_cast<double>(weight_[c]);
    second_sum_[c] *= static_cast<double>(weight_[c]);
  }
  for (std::size_t first = 0; first < channels_; first += group_) {
    const auto inverse = static_cast<double>(statistics_.inverse[statistics_at(n, first / group_)]);
    const auto shift = static_cast<float>(inverse * sum_of_group(first_sum_.data() + first) / count());
    const auto slope =
        static_cast<float>(inverse * inverse * sum_of_group(second_sum_.data() + first) / count());
    for (std::size_t c = first; c < first + group_; ++c) {
      scale_[c] = weight_[c] * static_cast<float>(inverse);
      shift_[c] = shift;
      slope_[c] = slope;
    }
  }
  for (std::size_t p = 0; p < pixels_; ++p) {
    for (std::size_t c = 0; c < channels_; ++c) {
      const std::size_t i = p * channels_ + c;
      const float grad = scale_[c] * grad_y[i] - shift_[c] - slope_[c] * (x[i] - mean_[c]);
      grad_x[i] = add ? grad_x[i] + grad : grad;
    }
  }
}

double read_epsilon(Settings& settings) {
  double epsilon = 1e-5;
  settings.read("epsilon", epsilon, below(1e-12, 1), "added to the variance");
  return epsilon;
}

}  // namespace

std::unique_ptr<Layer> make_group_norm(Settings& settings, const LayerContext& /*context*/) {
  std::int64_t groups = 1;
  settings.require("groups", groups, extents(), "equal parts of the channels, each with its own statistics");
  return std::make_unique<GroupNorm>(groups, read_epsilon(settings));
}

std::unique_ptr<Layer> make_layer_norm(Settings& settings, const LayerContext& /*context*/) {
  return std::make_unique<GroupNorm>(0, read_epsilon(settings));
}

}  // namespace impart::nn

// batch_norm (Ioffe and Szegedy 2015), over channels of images or over features. With `sync`, statistics are
// those of the whole batch (Peng et al. 2018, MegDet, section 3.3).
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/nn/shard_tree.hpp"
#include "nn/kernels/kernels.hpp"
#include "nn/layers/layers.hpp"
#include "nn/settings.hpp"

namespace impart::nn {

namespace {

// Images are channels last, so both (N, C, H, W) and (N, F) are a table of rows x channels here.
class BatchNorm final : public Layer {
 public:
  explicit BatchNorm(const LayerSpec& spec) {
    static constexpr std::array<std::string_view, 3> known{"momentum", "epsilon", "sync"};
    const Settings settings(spec, known);
    momentum_ = settings.number_or("momentum", 0.1, 0, 1.0 + 1e-9);
    epsilon_ = settings.number_or("epsilon", 1e-5, 1e-12, 1);
    sync_ = settings.flag_or("sync", false);
  }

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    const Shape& input = own_input(inputs);
    if (input.rank() != 1 && input.rank() != 3) {
      throw Error("the input does not fit", ErrorKind::kUsage)
          .expected("an image of channels x height x width, or a list of features")
          .got(input.str());
    }
    return input;
  }

  [[nodiscard]] std::vector<ParameterSpec> parameters(std::span<const Shape> inputs) const override {
    const Shape shape{own_input(inputs)[0]};
    return {{"weight", shape, StateKind::kParameter, Init::kOnes},
            {"bias", shape, StateKind::kParameter, Init::kZeros},
            {"running_mean", shape, StateKind::kBuffer, Init::kZeros},
            {"running_var", shape, StateKind::kBuffer, Init::kOnes}};
  }

  bool absorb(const LayerSpec& next) override {
    if (rectifier_ != Rectifier::kNone) return false;
    if (next.kind == "add" && !adds_ && next.from.size() == 2) return adds_ = true;
    if (next.kind == "relu") rectifier_ = Rectifier::kRelu;
    if (next.kind == "relu6") rectifier_ = Rectifier::kRelu6;
    return rectifier_ != Rectifier::kNone;
  }

  void setup(const Setup& setup) override {
    const Shape& input = setup.inputs[0];
    channels_ = static_cast<std::size_t>(input[1]);
    rows_ = static_cast<std::size_t>(input.elements() / setup.shards) / channels_;
    trainable_ = setup.trainable;
    const auto parts = setup.shards * setup.peers.parts;
    together_ = sync_ && parts > 1;
    measured_rows_ = together_ ? rows_ * static_cast<std::size_t>(parts) : rows_;
    if (setup.training && trainable_ && measured_rows_ < 2 && !setup.tail) {
      throw Error("batch statistics need at least 2 values a channel", ErrorKind::kUsage)
          .got("a shard of one sample")
          .hint("raise `batch_size`, lower `shards`, or freeze the layer");
    }
    if (setup.peers.parts > 1) sum_over_peers_ = setup.peers.sum;
    shards_ = static_cast<std::size_t>(setup.shards);
    setup.keep(statistics_, shards_ * 3 * channels_);
    sums_.resize(shards_ * 2 * channels_);
    work_.resize(3 * channels_);
    partial_.resize(static_cast<std::size_t>(ShardTree::partial_floats(setup.shards, input[1])));
    if (together_) batch_sums_.resize(sums_.size());
    setup.scratch->count_table((sums_.size() + batch_sums_.size()) * sizeof(double) +
                               (work_.size() + partial_.size()) * sizeof(float));
  }

  void load(std::span<const std::span<const float>> state) override {
    weight_ = state[0];
    bias_ = state[1];
    running_mean_ = state[2];
    running_variance_ = state[3];
  }

  // Without another addend, what the rectifier lets pass is computed again from the input.
  [[nodiscard]] Needs needs() const override {
    return {.inputs = true, .output = adds_ && rectifier_ != Rectifier::kNone};
  }
  [[nodiscard]] bool adds_gradients() const override { return true; }

  void forward(const Pass& pass, Inputs inputs, std::span<float> output) override {
    of_batch_ = is_of_batch(pass);
    const std::size_t part = rows_ * channels_;
    if (of_batch_ && together_) measure_batch(inputs[0].data());
    for (std::size_t s = 0; s < shards_; ++s) {
      const float* x = inputs[0].data() + s * part;
      find_scale(state_of(s), x);
      // The shard that has just been measured is still in the cache.
      kernels().norm_forward(norm_of(state_of(s)), x, adds_ ? inputs[1].data() + s * part : nullptr,
                             output.data() + s * part);
    }
  }

  void backward(const Pass& pass, const Backward& call) override {
    of_batch_ = is_of_batch(pass);
    const bool together = of_batch_ && together_ && !call.grad_inputs[0].values.empty();
    for (std::size_t s = 0; s < shards_; ++s) {
      sum_gradients(s, call);
      if (!together) write_input_gradient(s, state_of(s).sums, call);
    }
    if (together) {
      const auto sums = sum_over_batch();
      for (std::size_t s = 0; s < shards_; ++s) write_input_gradient(s, sums, call);
    }
    if (!call.gradients[0].empty()) write_gradients(pass, call.gradients);
  }

 private:
  /// What one shard was normalised by in the last forward, and sums of the backward pass.
  struct ShardState {
    float* mean;             // (C)
    float* variance;         // (C)
    float* scale;            // (C), of the input's difference from the mean
    std::span<double> sums;  // (2, C), over rows: gradient, gradient times that difference
  };
  [[nodiscard]] ShardState state_of(std::size_t s) {
    float* statistics = statistics_.data() + s * 3 * channels_;
    return {statistics, statistics + channels_, statistics + 2 * channels_,
            std::span(sums_).subspan(s * 2 * channels_, 2 * channels_)};
  }
  /// Whether a pass uses statistics of the batch.
  [[nodiscard]] bool is_of_batch(const Pass& pass) const {
    return pass.training && trainable_ && measured_rows_ > 1;
  }

  /// The first input; another one is that of an "add".
  [[nodiscard]] const Shape& own_input(std::span<const Shape> inputs) const {
    return only_input(adds_ && inputs.size() == 2 && inputs[0] == inputs[1] ? inputs.first(1) : inputs);
  }
  [[nodiscard]] Norm norm_of(const ShardState& shard) const;
  void measure(const ShardState& shard, const float* x);
  void measure_batch(const float* x);
  std::span<const double> sum_over_batch();
  void find_scale(const ShardState& shard, const float* x);
  void sum_gradients(std::size_t s, const Backward& call);
  void write_input_gradient(std::size_t s, std::span<const double> sums, const Backward& call);
  void write_gradients(const Pass& pass, std::span<const std::span<float>> gradients);

  double momentum_ = 0.1;
  double epsilon_ = 1e-5;
  Rectifier rectifier_ = Rectifier::kNone;
  bool adds_ = false;  // a second input
  bool trainable_ = true;
  bool sync_ = false;
  bool together_ = false;          // statistics are those of all shards, and of the peers'
  bool of_batch_ = false;          // whether this pass uses statistics of the batch
  std::size_t rows_ = 0;           // of a shard
  std::size_t measured_rows_ = 0;  // of which the statistics are
  std::size_t channels_ = 0;
  std::span<const float> weight_, bias_, running_mean_, running_variance_;  // (C), in the caller's state
  std::size_t shards_ = 1;
  Kept<float> statistics_;          // (shards, 3, C): means, variances, scales of the last forward
  std::vector<double> sums_;        // (shards, 2, C), of a pass
  std::vector<float> work_;         // (3, C), for the kernels
  std::vector<float> partial_;      // of sums over shards
  std::vector<double> batch_sums_;  // (shards, 2, C); of all in the first
  std::function<void(std::span<double>)> sum_over_peers_;
};

Norm BatchNorm::norm_of(const ShardState& shard) const {
  return {.rows = static_cast<std::int64_t>(rows_),
          .channels = static_cast<std::int64_t>(channels_),
          .rectifier = rectifier_,
          .mean = shard.mean,
          .scale = shard.scale,
          .bias = bias_.data()};
}

/// Mean and variance of the shard, into its sums.
void BatchNorm::measure(const ShardState& shard, const float* x) {
  kernels().norm_measure(static_cast<std::int64_t>(rows_), static_cast<std::int64_t>(channels_), x,
                         work_.data(), shard.sums.data());
}

/// Mean and variance of the batch, into batch_sums_: from the means of the shards' values and squares, which
/// are equally many. A double has digits enough for a variance far below the square of the mean.
void BatchNorm::measure_batch(const float* x) {
  for (std::size_t s = 0; s < shards_; ++s) {
    const auto shard = state_of(s);
    const auto sums = shard.sums;
    measure(shard, x + s * rows_ * channels_);
    for (std::size_t c = 0; c < channels_; ++c) sums[channels_ + c] += sums[c] * sums[c];
  }
  sum_over_batch();
  const auto parts = static_cast<double>(measured_rows_ / rows_);
  for (std::size_t c = 0; c < channels_; ++c) {
    const double mean = batch_sums_[c] / parts;
    const double variance = batch_sums_[channels_ + c] / parts - mean * mean;
    batch_sums_[c] = mean;
    batch_sums_[channels_ + c] = variance < 0 ? 0 : variance;
  }
}

/// The sums of all shards (2, C), those of the peers, too.
std::span<const double> BatchNorm::sum_over_batch() {
  const std::size_t size = 2 * channels_;
  std::ranges::copy(sums_, batch_sums_.begin());
  sum_in_tree(std::span(batch_sums_), size);
  const auto sums = std::span(batch_sums_).first(size);
  if (sum_over_peers_) sum_over_peers_(sums);
  return sums;
}

void BatchNorm::find_scale(const ShardState& shard, const float* x) {
  if (of_batch_) {
    if (!together_) measure(shard, x);
    const auto sums = together_ ? std::span(batch_sums_) : shard.sums;
    for (std::size_t c = 0; c < channels_; ++c) {
      shard.mean[c] = static_cast<float>(sums[c]);
      shard.variance[c] = static_cast<float>(sums[channels_ + c]);
    }
  } else {
    std::copy(running_mean_.begin(), running_mean_.end(), shard.mean);
    std::copy(running_variance_.begin(), running_variance_.end(), shard.variance);
  }
  for (std::size_t c = 0; c < channels_; ++c) {
    shard.scale[c] = static_cast<float>(static_cast<double>(weight_[c]) /
                                        std::sqrt(static_cast<double>(shard.variance[c]) + epsilon_));
  }
}

void BatchNorm::sum_gradients(std::size_t s, const Backward& call) {
  const auto shard = state_of(s);
  const std::size_t part = rows_ * channels_;
  const float* x = call.inputs[0].data() + s * part;
  float* grad = call.grad_output.data() + s * part;
  if (!adds_) {
    kernels().norm_gradient_sums(norm_of(shard), x, nullptr, grad, work_.data(), shard.sums.data());
  } else {
    // What the rectifier lets pass is the gradient of the second input.
    const float* y = rectifier_ == Rectifier::kNone ? nullptr : call.output.data() + s * part;
    kernels().norm_gradient_sums(norm_of(shard), x, y, grad, work_.data(), shard.sums.data());
    const auto& other = call.grad_inputs[1];
    for (std::size_t i = 0; i < part && !other.values.empty(); ++i) {
      float& to = other.values[s * part + i];
      to = other.add ? to + grad[i] : grad[i];
    }
  }
}

/// `sums`: over all rows of which the statistics are.
void BatchNorm::write_input_gradient(std::size_t s, std::span<const double> sums, const Backward& call) {
  const auto& to = call.grad_inputs[0];
  if (to.values.empty()) return;
  const auto shard = state_of(s);
  const std::size_t offset = s * rows_ * channels_;
  // The statistics of the batch depend on the input, too; running ones do not.
  const double share = of_batch_ ? 1.0 / static_cast<double>(measured_rows_) : 0.0;
  float* of_difference = work_.data();
  float* constant = work_.data() + channels_;
  for (std::size_t c = 0; c < channels_; ++c) {
    const double scale = share * static_cast<double>(shard.scale[c]);
    of_difference[c] = static_cast<float>(-scale * sums[channels_ + c] /
                                          (static_cast<double>(shard.variance[c]) + epsilon_));
    constant[c] = static_cast<float>(-scale * sums[c]);
  }
  Norm norm = norm_of(shard);
  if (adds_) norm.rectifier = Rectifier::kNone;  // `grad` has passed it
  kernels().norm_backward(norm, {.grad_scale = shard.scale, .x_scale = of_difference, .offset = constant},
                          call.inputs[0].data() + offset, call.grad_output.data() + offset, to.add,
                          to.values.data() + offset);
}

// The running variance takes the unbiased variance of the batch, as PyTorch does.
void BatchNorm::write_gradients(const Pass& pass, std::span<const std::span<float>> gradients) {
  const auto rows = static_cast<double>(measured_rows_);
  const double unbias = of_batch_ ? rows / (rows - 1) : 0.0;
  const double momentum = of_batch_ ? momentum_ : 0.0;
  const auto sum = [&](std::span<float> to, auto value) {
    ShardTree tree(static_cast<std::int64_t>(channels_), to.data(), partial_.data());
    for (std::size_t s = 0; s < shards_; ++s) {
      const auto shard = state_of(s);
      float* out = tree.next();
      for (std::size_t c = 0; c < channels_; ++c) out[c] = value(shard, c);
      tree.put();
    }
  };
  const auto change = [&](double from, float to) {
    return static_cast<float>(momentum * (from - static_cast<double>(to))) * pass.shard_share;
  };
  sum(gradients[0], [&](const ShardState& s, std::size_t c) {
    return static_cast<float>(s.sums[channels_ + c] /
                              std::sqrt(static_cast<double>(s.variance[c]) + epsilon_));
  });
  sum(gradients[1], [](const ShardState& s, std::size_t c) { return static_cast<float>(s.sums[c]); });
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

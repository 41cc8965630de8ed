#include "nn/depthwise.hpp"

#include <algorithm>
#include <vector>

#include "nn/kernels.hpp"
#include "nn/shard_tree.hpp"

namespace impart::nn {

namespace {

/// The kernels' copy of the weights: from (C, K * K) to (K * K, C), and then C zeros.
class DepthwiseWeights {
 public:
  DepthwiseWeights(const ConvGeometry& g, bool flipped)
      : channels_(static_cast<std::size_t>(g.channels)),
        taps_(static_cast<std::size_t>(g.window.kernel * g.window.kernel)),
        flipped_(flipped),
        values_((taps_ + 1) * channels_) {}

  void load(const float* weight) {
    for (std::size_t t = 0; t < taps_; ++t) {
      float* to = values_.data() + (flipped_ ? taps_ - 1 - t : t) * channels_;
      for (std::size_t c = 0; c < channels_; ++c) to[c] = weight[c * taps_ + t];
    }
  }
  [[nodiscard]] const float* data() const { return values_.data(); }
  [[nodiscard]] const float* zeros() const { return values_.data() + taps_ * channels_; }

 private:
  std::size_t channels_;
  std::size_t taps_;
  bool flipped_;
  std::vector<float> values_;
};

class DepthwiseForward final : public ConvForward {
 public:
  DepthwiseForward(const ConvGeometry& g, const ConvOptions& options)
      : weights_(g, false),
        conv_{.geometry = g, .weight = weights_.data(), .zeros = weights_.zeros(), .relu = options.relu} {}

  [[nodiscard]] std::size_t scratch_bytes() const override { return 0; }
  void load(const float* weight, const float* bias) override {
    weights_.load(weight);
    conv_.bias = bias;
  }
  void run(const float* x, float* y) override { kernels().depthwise_forward(conv_, x, y); }

 private:
  DepthwiseWeights weights_;
  DepthwiseConv conv_;
};

/// With stride 1, the gradient of the data is a forward pass with the weights turned around.
bool turns_around(const Window& w) {
  return w.kernel == 3 && w.stride == 1 && w.dilation == 1 && w.padding <= 2;
}

ConvGeometry turned_around(const ConvGeometry& g) {
  ConvGeometry turned = g;
  std::swap(turned.height, turned.out_height);
  std::swap(turned.width, turned.out_width);
  turned.window.padding = g.window.reach() - 1 - g.window.padding;
  return turned;
}

class DepthwiseBackwardData final : public ConvBackwardData {
 public:
  explicit DepthwiseBackwardData(const ConvGeometry& g)
      : turned_(turns_around(g.window)),
        weights_(g, turned_),
        conv_{.geometry = turned_ ? turned_around(g) : g,
              .weight = weights_.data(),
              .zeros = weights_.zeros()} {}

  [[nodiscard]] std::size_t scratch_bytes() const override { return 0; }
  void load(const float* weight) override { weights_.load(weight); }
  void run(const float* grad_y, float* grad_x, bool add) override {
    conv_.add = add;
    (turned_ ? kernels().depthwise_forward : kernels().depthwise_data)(conv_, grad_y, grad_x);
  }

 private:
  bool turned_;
  DepthwiseWeights weights_;
  DepthwiseConv conv_;
};

class DepthwiseBackwardWeights final : public ConvBackwardWeights {
 public:
  DepthwiseBackwardWeights(const ConvGeometry& g, const ConvOptions& options)
      : shards_(g.shards),
        bias_(options.bias),
        zeros_(static_cast<std::size_t>(g.channels)),
        taps_(g.window.kernel * g.window.kernel),
        sums_(static_cast<std::size_t>((taps_ + 1) * g.channels)),
        partial_(static_cast<std::size_t>(ShardTree::partial_floats(g.shards, (taps_ + 1) * g.channels))) {
    conv_.geometry = g;
    conv_.geometry.batch = g.batch / g.shards;
    conv_.geometry.shards = 1;
    conv_.zeros = zeros_.data();
  }

  [[nodiscard]] std::size_t scratch_bytes() const override { return 0; }
  void run(const float* x, const float* grad_y, float* grad_weight, float* grad_bias) override {
    const ConvGeometry& g = conv_.geometry;
    ShardTree tree(static_cast<std::int64_t>(sums_.size()), sums_.data(), partial_.data());
    for (std::int64_t s = 0; s < shards_; ++s) {
      float* sums = tree.next();
      const float* grad = grad_y + s * g.shard_output();
      kernels().depthwise_weights(conv_, x + s * g.shard_input(), grad, sums);
      if (bias_) sum_pixels(grad, sums + taps_ * g.channels);
      tree.put();
    }
    for (std::int64_t c = 0; c < g.channels; ++c) {
      for (std::int64_t t = 0; t < taps_; ++t) {
        grad_weight[c * taps_ + t] = sums_[static_cast<std::size_t>(t * g.channels + c)];
      }
    }
    if (bias_) std::copy_n(sums_.data() + taps_ * g.channels, g.channels, grad_bias);
  }

 private:
  void sum_pixels(const float* grad, float* sum) const {
    const std::int64_t channels = conv_.geometry.channels;
    std::fill_n(sum, channels, 0.0F);
    for (const float* end = grad + conv_.geometry.shard_output(); grad != end; grad += channels) {
      for (std::int64_t c = 0; c < channels; ++c) sum[c] += grad[c];
    }
  }

  DepthwiseConv conv_;  // of one shard
  std::int64_t shards_;
  bool bias_;
  std::vector<float> zeros_;
  std::int64_t taps_;
  std::vector<float> sums_, partial_;  // (K * K + 1, C), and what waits in the tree
};

}  // namespace

bool depthwise_serves(const ConvGeometry& g, ConvDirection /*direction*/) {
  return g.groups == g.channels && g.filters == g.channels && g.window.kernel <= kMaxDepthwiseKernel;
}

std::unique_ptr<ConvForward> make_depthwise_forward(const ConvGeometry& g, const ConvOptions& options,
                                                    Scratch& /*scratch*/) {
  return std::make_unique<DepthwiseForward>(g, options);
}

std::unique_ptr<ConvBackwardData> make_depthwise_data(const ConvGeometry& g, const ConvOptions& /*options*/,
                                                      Scratch& /*scratch*/) {
  return std::make_unique<DepthwiseBackwardData>(g);
}

std::unique_ptr<ConvBackwardWeights> make_depthwise_weights(const ConvGeometry& g, const ConvOptions& options,
                                                            Scratch& /*scratch*/) {
  return std::make_unique<DepthwiseBackwardWeights>(g, options);
}

}  // namespace impart::nn

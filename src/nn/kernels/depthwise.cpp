#include "nn/kernels/depthwise.hpp"

#include <algorithm>
#include <vector>

#include "impart/core/summation_tree.hpp"
#include "nn/kernels/kernels.hpp"

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

  static std::size_t bytes(const ConvGeometry& g) {
    return static_cast<std::size_t>((g.window.kernel * g.window.kernel + 1) * g.channels) * sizeof(float);
  }

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
  explicit DepthwiseBackwardWeights(const ConvGeometry& g)
      : geometry_(g),
        taps_(g.window.kernel * g.window.kernel),
        zeros_(static_cast<std::size_t>(g.channels)),
        sums_(static_cast<std::size_t>(taps_ * g.channels)),
        partial_(static_cast<std::size_t>(ShardTree::partial_floats(g.shards, taps_ * g.channels))) {
    shard_.geometry = g;
    shard_.geometry.batch = g.batch / g.shards;
    shard_.geometry.shards = 1;
    shard_.zeros = zeros_.data();
  }
  [[nodiscard]] std::size_t table_bytes() const {
    return (zeros_.size() + sums_.size() + partial_.size()) * sizeof(float);
  }

  [[nodiscard]] std::size_t scratch_bytes() const override { return 0; }
  void run(const float* x, const float* grad_y, float* grad_weight, float* grad_bias) override {
    const ConvGeometry& g = geometry_;
    ShardTree tree(taps_ * g.channels, sums_.data(), partial_.data());
    for (std::int64_t s = 0; s < g.shards; ++s) {
      kernels().depthwise_weights(shard_, x + s * g.shard_input(), grad_y + s * g.shard_output(),
                                  tree.next());
      tree.put();
    }
    for (std::int64_t c = 0; c < g.channels; ++c) {
      for (std::int64_t t = 0; t < taps_; ++t) {
        grad_weight[c * taps_ + t] = sums_[static_cast<std::size_t>(t * g.channels + c)];
      }
    }
    if (grad_bias != nullptr) sum_bias_gradient(g, grad_y, partial_.data(), grad_bias);
  }

 private:
  ConvGeometry geometry_;
  std::int64_t taps_;
  DepthwiseConv shard_;
  std::vector<float> zeros_;
  std::vector<float> sums_, partial_;  // (K * K, C), and what waits in the tree
};

}  // namespace

bool depthwise_serves(const ConvGeometry& g, ConvDirection /*direction*/) {
  return g.groups == g.channels && g.filters == g.channels && g.window.kernel <= kMaxDepthwiseKernel;
}

std::unique_ptr<ConvForward> make_depthwise_forward(const ConvGeometry& g, const ConvOptions& options,
                                                    Scratch& scratch) {
  scratch.count_table(DepthwiseWeights::bytes(g));
  return std::make_unique<DepthwiseForward>(g, options);
}

std::unique_ptr<ConvBackwardData> make_depthwise_data(const ConvGeometry& g, const ConvOptions& /*options*/,
                                                      Scratch& scratch) {
  scratch.count_table(DepthwiseWeights::bytes(g));
  return std::make_unique<DepthwiseBackwardData>(g);
}

std::unique_ptr<ConvBackwardWeights> make_depthwise_weights(const ConvGeometry& g,
                                                            const ConvOptions& /*options*/,
                                                            Scratch& scratch) {
  auto made = std::make_unique<DepthwiseBackwardWeights>(g);
  scratch.count_table(made->table_bytes());
  return made;
}

}  // namespace impart::nn

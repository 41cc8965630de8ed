// Depthwise convolutions against plain loops in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "impart/core/summation_tree.hpp"
#include "nn/conv_testing.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

struct Case {
  std::int64_t channels;
  std::int64_t height;
  std::int64_t width;
  Window window;
};

class Depthwise : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const Case& c = GetParam();
    g_ = {.batch = 8,
          .channels = c.channels,
          .height = c.height,
          .width = c.width,
          .filters = c.channels,
          .out_height = c.window.output_extent(c.height),
          .out_width = c.window.output_extent(c.width),
          .window = c.window,
          .groups = c.channels,
          .shards = 4};
    x_ = normal_values(static_cast<std::size_t>(g_.shard_input() * g_.shards), 1);
    grad_y_ = normal_values(static_cast<std::size_t>(g_.shard_output() * g_.shards), 2);
    weight_ = normal_values(static_cast<std::size_t>(g_.filters * g_.taps()), 3);
    bias_ = normal_values(static_cast<std::size_t>(g_.filters), 4);
  }

  static const ConvCandidate& candidate(const ConvGeometry& g, ConvDirection direction) {
    return choose_convolution(g, direction, "depthwise");
  }

  static std::vector<float> forward(const ConvGeometry& g, const float* x, const std::vector<float>& weight) {
    Scratch scratch;
    const auto kernel = candidate(g, ConvDirection::kForward).forward(g, {}, scratch);
    kernel->load(weight.data(), nullptr);
    std::vector<float> y(static_cast<std::size_t>(g.shard_output() * g.shards), NAN);
    kernel->run(x, y.data());
    return y;
  }

  /// Gradients of the weights, and then of the bias.
  static std::vector<float> weights(const ConvGeometry& g, const float* x, const float* grad_y) {
    Scratch scratch;
    const auto kernel = candidate(g, ConvDirection::kWeights).weights(g, {.bias = true}, scratch);
    std::vector<float> gradient(static_cast<std::size_t>(g.filters * (g.taps() + 1)), NAN);
    kernel->run(x, grad_y, gradient.data(), gradient.data() + g.filters * g.taps());
    return gradient;
  }

  static void expect_close(std::span<const float> got, const Doubles& expected) {
    const std::vector<float> rounded(expected.begin(), expected.end());
    EXPECT_LT(relative_difference(got, rounded), 1e-6);
  }

  ConvGeometry g_;
  std::vector<float> x_, grad_y_, weight_, bias_;
};

TEST_P(Depthwise, ForwardIsThePlainLoop) {
  expect_close(forward(g_, x_.data(), weight_), plain_forward(g_, x_, weight_));
}

TEST_P(Depthwise, ForwardAddsTheBiasAndRectifies) {
  Scratch scratch;
  const auto kernel =
      candidate(g_, ConvDirection::kForward).forward(g_, {.bias = true, .relu = true}, scratch);
  kernel->load(weight_.data(), bias_.data());
  std::vector<float> y(grad_y_.size(), NAN);
  kernel->run(x_.data(), y.data());
  auto expected = plain_forward(g_, x_, weight_);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    expected[i] = std::max(0.0, expected[i] + static_cast<double>(bias_[i % bias_.size()]));
  }
  expect_close(y, expected);
}

TEST_P(Depthwise, DataGradientIsThePlainLoop) {
  Scratch scratch;
  const auto kernel = candidate(g_, ConvDirection::kData).data(g_, {}, scratch);
  kernel->load(weight_.data());
  std::vector<float> grad_x(x_.size(), NAN);
  kernel->run(grad_y_.data(), grad_x.data(), false);
  auto expected = plain_data(g_, grad_y_, weight_);
  expect_close(grad_x, expected);
  kernel->run(grad_y_.data(), grad_x.data(), true);
  for (double& v : expected) v *= 2;
  expect_close(grad_x, expected);
}

TEST_P(Depthwise, WeightGradientIsThePlainLoop) {
  auto expected = plain_weights(g_, x_, grad_y_);
  Doubles bias(bias_.size());
  for (std::size_t i = 0; i < grad_y_.size(); ++i) bias[i % bias.size()] += static_cast<double>(grad_y_[i]);
  expected.insert(expected.end(), bias.begin(), bias.end());
  expect_close(weights(g_, x_.data(), grad_y_.data()), expected);
}

TEST_P(Depthwise, ShardsTogetherHaveTheBitsOfShardsAlone) {
  const auto y = forward(g_, x_.data(), weight_);
  const auto together = weights(g_, x_.data(), grad_y_.data());
  ConvGeometry shard = g_;
  shard.batch = g_.batch / g_.shards;
  shard.shards = 1;
  std::vector<float> total(together.size());
  std::vector<float> partial(together.size() * 4);
  ShardTree tree(static_cast<std::int64_t>(total.size()), total.data(), partial.data());
  for (std::int64_t s = 0; s < g_.shards; ++s) {
    const float* x = x_.data() + s * shard.shard_input();
    const auto alone = forward(shard, x, weight_);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), y.begin() + s * shard.shard_output()));
    const auto gradient = weights(shard, x, grad_y_.data() + s * shard.shard_output());
    std::copy(gradient.begin(), gradient.end(), tree.next());
    tree.put();
  }
  EXPECT_EQ(together, total);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Depthwise,
    ::testing::Values(Case{32, 32, 32, {.kernel = 3, .stride = 1, .padding = 1}},
                      Case{144, 16, 16, {.kernel = 3, .stride = 2, .padding = 1}},
                      Case{37, 9, 35, {.kernel = 3, .stride = 2, .padding = 1}},
                      Case{960, 4, 4, {.kernel = 3, .stride = 1, .padding = 1}},
                      Case{37, 9, 35, {.kernel = 3, .stride = 1, .padding = 0}},
                      Case{37, 10, 69, {.kernel = 3, .stride = 2, .padding = 2}},
                      Case{5, 3, 2, {.kernel = 3, .stride = 1, .padding = 2}},
                      Case{21, 9, 11, {.kernel = 3, .stride = 3, .padding = 4}},
                      Case{21, 9, 11, {.kernel = 3, .stride = 2, .padding = 2, .dilation = 2}},
                      Case{19, 12, 7, {.kernel = 5, .stride = 2, .padding = 2}},
                      Case{3, 8, 8, {.kernel = 7, .stride = 1, .padding = 3}}));

}  // namespace
}  // namespace impart::nn::testing

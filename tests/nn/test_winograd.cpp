// Winograd's convolutions against plain loops in double, on the shapes of the networks that they serve.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "impart/core/error.hpp"
#include "impart/core/summation_tree.hpp"
#include "nn/conv_testing.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

constexpr Window kPadded{.kernel = 3, .stride = 1, .padding = 1};
constexpr Window kBare{.kernel = 3, .stride = 1, .padding = 0};

struct Case {
  std::string_view candidate;
  std::int64_t channels;
  std::int64_t height;
  std::int64_t width;
  std::int64_t filters;
  std::int64_t padding;
  double bound;  // of the relative error in norm
};

constexpr double kLoose = 3e-6;  // F(4x4, 3x3)
constexpr double kTight = 1e-6;

class Winograd : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const Case& c = GetParam();
    const Window window = c.padding == 1 ? kPadded : kBare;
    g_ = conv_geometry(2, c.channels, c.height, c.filters, window);
    g_.width = c.width;
    g_.out_width = window.output_extent(c.width);
    x_ = values(g_.shard_input(), 1, 1.0);
    grad_y_ = values(g_.shard_output(), 2, 1.0);
    weight_ = values(g_.filters * g_.taps(), 3, std::sqrt(2.0 / static_cast<double>(g_.taps())));
    bias_ = values(g_.filters, 4, 1.0);
  }

  static Values values(std::int64_t n, std::uint64_t seed, double scale) {
    const auto v = normal_values(static_cast<std::size_t>(n), seed, scale);
    return {v.begin(), v.end()};
  }

  static const ConvCandidate& candidate(const ConvGeometry& g, ConvDirection direction) {
    return choose_convolution(g, direction, GetParam().candidate);
  }

  static Values forward(const ConvGeometry& g, const ConvOptions& options, const float* x,
                        const float* weight, const float* bias) {
    Scratch scratch;
    const auto kernel = candidate(g, ConvDirection::kForward).forward(g, options, scratch);
    scratch.allocate();
    kernel->load(weight, bias);
    Values y(static_cast<std::size_t>(g.shard_output() * g.shards), NAN);
    kernel->run(x, y.data());
    return y;
  }

  /// Gradients of the weights, and then of the bias.
  static Values weights(const ConvGeometry& g, const float* x, const float* grad_y) {
    Scratch scratch;
    const auto kernel = candidate(g, ConvDirection::kWeights).weights(g, {.bias = true}, scratch);
    scratch.allocate();
    Values gradient(static_cast<std::size_t>(g.filters * (g.taps() + 1)), NAN);
    kernel->run(x, grad_y, gradient.data(), gradient.data() + g.filters * g.taps());
    return gradient;
  }

  static void expect_close(std::span<const float> got, const Doubles& expected) {
    const std::vector<float> rounded(expected.begin(), expected.end());
    EXPECT_LT(relative_difference(got, rounded), GetParam().bound);
  }

  ConvGeometry g_;
  Values x_, grad_y_, weight_, bias_;
};

TEST_P(Winograd, ForwardIsThePlainLoop) {
  expect_close(forward(g_, {}, x_.data(), weight_.data(), nullptr), plain_forward(g_, x_, weight_));
}

TEST_P(Winograd, ForwardAddsTheBiasAndRectifies) {
  auto expected = plain_forward(g_, x_, weight_);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    expected[i] = std::max(0.0, expected[i] + static_cast<double>(bias_[i % bias_.size()]));
  }
  const ConvOptions options{.bias = true, .relu = true};
  expect_close(forward(g_, options, x_.data(), weight_.data(), bias_.data()), expected);
}

TEST_P(Winograd, DataGradientIsThePlainLoop) {
  Scratch scratch;
  const auto kernel = candidate(g_, ConvDirection::kData).data(g_, {}, scratch);
  scratch.allocate();
  kernel->load(weight_.data());
  Values grad_x(x_.size(), NAN);
  kernel->run(grad_y_.data(), grad_x.data(), false);
  auto expected = plain_data(g_, grad_y_, weight_);
  expect_close(grad_x, expected);
  kernel->run(grad_y_.data(), grad_x.data(), true);
  for (double& v : expected) v *= 2;
  expect_close(grad_x, expected);
}

TEST_P(Winograd, WeightGradientIsThePlainLoop) {
  ConvGeometry g = g_;
  g.shards = 2;
  const Values gradient = weights(g, x_.data(), grad_y_.data());
  auto expected = plain_weights(g, x_, grad_y_);
  Doubles bias(bias_.size());
  for (std::size_t i = 0; i < grad_y_.size(); ++i) bias[i % bias.size()] += static_cast<double>(grad_y_[i]);
  expected.insert(expected.end(), bias.begin(), bias.end());
  expect_close(gradient, expected);
}

TEST_P(Winograd, EightShardsHaveTheBitsOfShardsAlone) {
  ConvGeometry together = g_;
  together.batch = 24;
  together.shards = 8;
  ConvGeometry shard = g_;
  shard.batch = 3;
  const Values x = values(together.shard_input() * 8, 5, 1.0);
  const Values grad_y = values(together.shard_output() * 8, 6, 1.0);
  const Values gradient = weights(together, x.data(), grad_y.data());
  Values total(gradient.size());
  Values partial(gradient.size() * 3);
  ShardTree tree(static_cast<std::int64_t>(total.size()), total.data(), partial.data());
  for (std::int64_t s = 0; s < 8; ++s) {
    const Values alone =
        weights(shard, x.data() + s * shard.shard_input(), grad_y.data() + s * shard.shard_output());
    std::copy(alone.begin(), alone.end(), tree.next());
    tree.put();
  }
  EXPECT_TRUE(gradient == total);
}

TEST_P(Winograd, ASampleHasTheSameBitsAloneAndInABatch) {
  ConvGeometry batch = g_;
  batch.batch = 37;  // several blocks of tiles, the last one not full
  const Values x = values(batch.shard_input(), 5, 1.0);
  const Values together = forward(batch, {}, x.data(), weight_.data(), nullptr);
  ConvGeometry sample = g_;
  sample.batch = 1;
  const auto in = static_cast<std::size_t>(sample.shard_input());
  const auto out = static_cast<std::size_t>(sample.shard_output());
  for (const std::size_t i : {0, 17, 36}) {
    const Values alone = forward(sample, {}, x.data() + i * in, weight_.data(), nullptr);
    EXPECT_TRUE(
        std::equal(alone.begin(), alone.end(), together.begin() + static_cast<std::ptrdiff_t>(i * out)));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Winograd,
    ::testing::Values(
        Case{"winograd4", 64, 32, 32, 64, 1, kLoose}, Case{"winograd4", 128, 16, 16, 128, 1, kLoose},
        Case{"winograd4", 256, 8, 8, 256, 1, kLoose}, Case{"winograd4", 512, 4, 4, 512, 1, kLoose},
        Case{"winograd4", 128, 8, 8, 256, 1, kLoose}, Case{"winograd4", 32, 13, 13, 64, 0, kLoose},
        Case{"winograd4", 64, 5, 5, 64, 0, kLoose}, Case{"winograd4", 80, 7, 10, 48, 1, kLoose},
        Case{"winograd2", 512, 2, 2, 512, 1, kTight}, Case{"winograd2", 64, 8, 8, 64, 1, kTight},
        Case{"winograd2", 80, 6, 8, 48, 0, kTight}, Case{"winograd2", 32, 7, 8, 32, 1, kTight}),
    [](const auto& test) {
      const Case& c = test.param;
      return std::string(c.candidate) + "_" + std::to_string(c.channels) + "x" + std::to_string(c.height) +
             "x" + std::to_string(c.width) + "_" + std::to_string(c.filters) + "_padding" +
             std::to_string(c.padding);
    });

TEST(WinogradServes, WholeRegistersOfChannelsAndPlainWindowsOnly) {
  const auto serves = [](const ConvGeometry& g) {
    return std::ranges::any_of(conv_candidates(), [&](const ConvCandidate& candidate) {
      return candidate.name.starts_with("winograd") && candidate.serves(g, ConvDirection::kForward);
    });
  };
  EXPECT_TRUE(serves(conv_geometry(1, 64, 8, 64, kPadded)));
  EXPECT_FALSE(serves(conv_geometry(1, 65, 8, 64, kPadded)));
  EXPECT_FALSE(serves(conv_geometry(1, 64, 8, 64, {.kernel = 5, .stride = 1, .padding = 1})));
  EXPECT_FALSE(serves(conv_geometry(1, 64, 8, 64, {.kernel = 3, .stride = 2, .padding = 1})));
  EXPECT_FALSE(serves(conv_geometry(1, 64, 8, 64, {.kernel = 3, .stride = 1, .padding = 2})));
  EXPECT_FALSE(serves(conv_geometry(1, 64, 8, 64, {.kernel = 3, .stride = 1, .padding = 1, .dilation = 2})));
  EXPECT_FALSE(serves(conv_geometry(1, 64, 8, 64, kPadded, 2)));
}

TEST(WinogradWins, WhereItSavesEnoughProducts) {
  const auto chosen = [](const ConvGeometry& g, ConvDirection direction) {
    return choose_convolution(g, direction).name;
  };
  EXPECT_EQ(chosen(conv_geometry(1, 64, 32, 64, kPadded), ConvDirection::kForward), "winograd4");
  EXPECT_EQ(chosen(conv_geometry(1, 64, 32, 64, kPadded), ConvDirection::kWeights), "winograd4");
  EXPECT_EQ(chosen(conv_geometry(1, 512, 2, 512, kPadded), ConvDirection::kData), "winograd2");
  EXPECT_EQ(chosen(conv_geometry(1, 512, 2, 512, kPadded), ConvDirection::kWeights), "winograd2");
  EXPECT_EQ(chosen(conv_geometry(1, 64, 5, 64, kBare), ConvDirection::kForward), "winograd4");
  EXPECT_FALSE(chosen(conv_geometry(1, 64, 5, 64, kBare), ConvDirection::kData).starts_with("winograd"));
}

}  // namespace
}  // namespace impart::nn::testing

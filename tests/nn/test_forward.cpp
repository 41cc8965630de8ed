// Forward passes of whole networks against plain loops in double.
#include <gtest/gtest.h>

#include <algorithm>

#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

/// Row-major images or features in double, computed the slow way.
struct Plain {
  Shape shape;  // (N, C, H, W) or (N, F)
  std::vector<double> values;

  [[nodiscard]] double at(std::int64_t n, std::int64_t c, std::int64_t y, std::int64_t x) const {
    if (y < 0 || x < 0 || y >= shape[2] || x >= shape[3]) return 0;
    return values[static_cast<std::size_t>(((n * shape[1] + c) * shape[2] + y) * shape[3] + x)];
  }
};

Plain empty(const Shape& shape) {
  return {shape, std::vector<double>(static_cast<std::size_t>(shape.elements()))};
}

Plain plain_conv(const Plain& x, std::span<const float> weight, std::span<const float> bias,
                 std::int64_t filters, std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  const std::int64_t oh = (x.shape[2] + 2 * padding - kernel) / stride + 1;
  const std::int64_t ow = (x.shape[3] + 2 * padding - kernel) / stride + 1;
  Plain y = empty({x.shape[0], filters, oh, ow});
  std::size_t to = 0;
  for (std::int64_t n = 0; n < x.shape[0]; ++n) {
    for (std::int64_t f = 0; f < filters; ++f) {
      for (std::int64_t oy = 0; oy < oh; ++oy) {
        for (std::int64_t ox = 0; ox < ow; ++ox, ++to) {
          double sum = bias.empty() ? 0.0 : static_cast<double>(bias[static_cast<std::size_t>(f)]);
          auto w = static_cast<std::size_t>(f * x.shape[1] * kernel * kernel);
          for (std::int64_t c = 0; c < x.shape[1]; ++c) {
            for (std::int64_t ky = 0; ky < kernel; ++ky) {
              for (std::int64_t kx = 0; kx < kernel; ++kx, ++w) {
                sum += static_cast<double>(weight[w]) *
                       x.at(n, c, oy * stride - padding + ky, ox * stride - padding + kx);
              }
            }
          }
          y.values[to] = sum;
        }
      }
    }
  }
  return y;
}

Plain plain_pool(const Plain& x, std::int64_t kernel, std::int64_t stride, std::int64_t padding,
                 bool maximum) {
  const std::int64_t oh = (x.shape[2] + 2 * padding - kernel) / stride + 1;
  const std::int64_t ow = (x.shape[3] + 2 * padding - kernel) / stride + 1;
  Plain y = empty({x.shape[0], x.shape[1], oh, ow});
  std::size_t to = 0;
  for (std::int64_t n = 0; n < x.shape[0]; ++n) {
    for (std::int64_t c = 0; c < x.shape[1]; ++c) {
      for (std::int64_t oy = 0; oy < oh; ++oy) {
        for (std::int64_t ox = 0; ox < ow; ++ox, ++to) {
          double best = -1e30;
          double sum = 0;
          for (std::int64_t ky = 0; ky < kernel; ++ky) {
            for (std::int64_t kx = 0; kx < kernel; ++kx) {
              const std::int64_t iy = oy * stride - padding + ky;
              const std::int64_t ix = ox * stride - padding + kx;
              sum += x.at(n, c, iy, ix);
              const bool inside = iy >= 0 && ix >= 0 && iy < x.shape[2] && ix < x.shape[3];
              if (inside) best = std::max(best, x.at(n, c, iy, ix));
            }
          }
          y.values[to] = maximum ? best : sum / static_cast<double>(kernel * kernel);
        }
      }
    }
  }
  return y;
}

Plain plain_relu(Plain x) {
  for (double& v : x.values) v = std::max(v, 0.0);
  return x;
}

Plain plain_dense(const Plain& x, std::span<const float> weight, std::span<const float> bias,
                  std::int64_t units) {
  const auto n = static_cast<std::size_t>(x.shape[0]);
  const std::size_t features = x.values.size() / n;
  Plain y = empty({x.shape[0], units});
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t u = 0; u < static_cast<std::size_t>(units); ++u) {
      double sum = bias.empty() ? 0.0 : static_cast<double>(bias[u]);
      for (std::size_t k = 0; k < features; ++k) {
        sum += static_cast<double>(weight[u * features + k]) * x.values[i * features + k];
      }
      y.values[i * static_cast<std::size_t>(units) + u] = sum;
    }
  }
  return y;
}

Plain batch_of(const Shape& sample, std::int64_t batch, std::span<const float> values) {
  return {sample.with_batch(batch), std::vector<double>(values.begin(), values.end())};
}

void expect_close(std::span<const float> got, const Plain& expected) {
  ASSERT_EQ(got.size(), expected.values.size());
  const std::vector<float> rounded(expected.values.begin(), expected.values.end());
  EXPECT_LT(relative_difference(got, rounded), 2e-6);
}

// One spatial layer, then flatten, so that the caller sees PyTorch's order of features again.
struct OneLayer {
  OneLayer(const LayerSpec& first, const Shape& sample, std::int64_t batch_size,
           std::vector<LayerSpec> after = {})
      : batch(batch_size) {
    std::vector<LayerSpec> layers{first};
    layers.insert(layers.end(), after.begin(), after.end());
    layers.push_back(layer("flatten"));
    Shape shape = sample;
    for (const auto& l : layers) shape = make_layer(l)->output_shape({&shape, 1});
    spec = model(sample, static_cast<int>(shape[0]), layers);
    state = initial_state(spec, 3);
    Rng rng(9, "test");
    for (float& v : state.parameters()) v = static_cast<float>(0.3 * rng.normal());
    input = normal_values(static_cast<std::size_t>(sample.with_batch(batch).elements()), 4);
    plain = batch_of(sample, batch, input);
  }

  std::span<const float> forward() {
    network = std::make_unique<Network>(spec, batch);
    network->load(state);
    return network->forward({}, input);
  }

  ModelSpec spec;
  std::int64_t batch;
  StateDict state;
  std::vector<float> input;
  Plain plain;
  std::unique_ptr<Network> network;
};

TEST(Forward, Convolution) {
  struct Case {
    Shape sample;
    int filters, kernel, stride, padding;
    bool bias;
  };
  for (const auto& c : {Case{{1, 9, 8}, 5, 3, 1, 0, true}, Case{{3, 9, 8}, 16, 3, 2, 1, true},
                        Case{{16, 7, 7}, 32, 5, 1, 2, false}, Case{{17, 6, 5}, 7, 1, 1, 0, true},
                        Case{{32, 13, 13}, 64, 3, 1, 0, true}}) {
    SCOPED_TRACE(c.sample.str());
    OneLayer one(conv2d(c.filters, c.kernel, c.stride, c.padding, c.bias), c.sample, 3);
    const auto bias =
        c.bias ? std::span<const float>(one.state.values("conv1.bias")) : std::span<const float>();
    expect_close(one.forward(), plain_conv(one.plain, one.state.values("conv1.weight"), bias, c.filters,
                                           c.kernel, c.stride, c.padding));
  }
}

// Each way that a convolution with a rectifier and a pooling behind it is computed: few taps or oneDNN,
// filters that fill registers or not, windows that touch or overlap.
TEST(Forward, ConvolutionRectifierAndPooling) {
  struct Case {
    Shape sample;
    int filters, kernel, stride, padding, pool_kernel, pool_stride;
  };
  for (const auto& c : {Case{{1, 28, 28}, 32, 3, 1, 0, 2, 2}, Case{{1, 11, 12}, 37, 3, 1, 0, 2, 2},
                        Case{{3, 12, 9}, 8, 3, 2, 0, 2, 3}, Case{{1, 12, 12}, 20, 5, 1, 0, 2, 1},
                        Case{{32, 13, 13}, 64, 3, 1, 0, 2, 2}, Case{{2, 9, 9}, 19, 3, 1, 1, 3, 2}}) {
    for (const bool pool_first : {false, true}) {
      SCOPED_TRACE(c.sample.str() + (pool_first ? " pool first" : " rectifier first"));
      const auto pooling = pool("max_pool2d", c.pool_kernel, c.pool_stride);
      OneLayer one(conv2d(c.filters, c.kernel, c.stride, c.padding), c.sample, 2,
                   pool_first ? std::vector{pooling, layer("relu")} : std::vector{layer("relu"), pooling});
      const auto conv = plain_conv(one.plain, one.state.values("conv1.weight"),
                                   one.state.values("conv1.bias"), c.filters, c.kernel, c.stride, c.padding);
      expect_close(one.forward(), plain_pool(plain_relu(conv), c.pool_kernel, c.pool_stride, 0, true));
    }
  }
}

TEST(Forward, Pooling) {
  struct Case {
    Shape sample;
    int kernel, stride, padding;
  };
  for (const auto& c : {Case{{3, 7, 6}, 2, 2, 0}, Case{{16, 8, 9}, 3, 2, 1}, Case{{37, 5, 5}, 2, 3, 0},
                        Case{{1, 4, 4}, 4, 4, 2}, Case{{2, 15, 16}, 15, 1, 0}}) {
    SCOPED_TRACE(c.sample.str());
    OneLayer maximum(pool("max_pool2d", c.kernel, c.stride, c.padding), c.sample, 2);
    expect_close(maximum.forward(), plain_pool(maximum.plain, c.kernel, c.stride, c.padding, true));
    OneLayer mean(pool("avg_pool2d", c.kernel, c.stride, c.padding), c.sample, 2);
    expect_close(mean.forward(), plain_pool(mean.plain, c.kernel, c.stride, c.padding, false));
  }
}

TEST(Forward, DenseReluAndFlatten) {
  const auto spec = model({2, 3, 4}, 5, {layer("flatten"), dense(7), layer("relu"), dense(5, false)});
  const auto state = initial_state(spec, 1);
  const auto input = normal_values(3 * 24, 2);
  Network network(spec, 3);
  network.load(state);
  const auto hidden = plain_relu(
      plain_dense(batch_of({24}, 3, input), state.values("dense1.weight"), state.values("dense1.bias"), 7));
  expect_close(network.forward({}, input), plain_dense(hidden, state.values("dense2.weight"), {}, 5));
}

TEST(Forward, FlattenGivesRowMajorFeaturesBackFromChannelsLast) {
  const auto spec = model({3, 4, 5}, 60, {layer("relu"), layer("flatten")});
  const auto state = initial_state(spec, 1);
  std::vector<float> input(2 * 60);
  for (std::size_t i = 0; i < input.size(); ++i) input[i] = static_cast<float>(i);
  Network network(spec, 2);
  network.load(state);
  const auto output = network.forward({}, input);
  EXPECT_TRUE(std::equal(output.begin(), output.end(), input.begin(), input.end()));
}

TEST(Forward, BatchNormOfTheBatchAndOfRunningStatistics) {
  const auto spec = model({3, 2, 5}, 30, {layer("batch_norm", {{"epsilon", 1e-3}}), layer("flatten")});
  auto state = initial_state(spec, 1);
  for (std::size_t c = 0; c < 3; ++c) {
    state.values("bn1.weight")[c] = 0.5F + static_cast<float>(c);
    state.values("bn1.bias")[c] = static_cast<float>(c) - 1.0F;
    state.values("bn1.running_mean")[c] = 0.25F * static_cast<float>(c);
    state.values("bn1.running_var")[c] = 2.0F + static_cast<float>(c);
  }
  const auto input = normal_values(4 * 30, 2, 3.0);
  const auto plain = batch_of({3, 2, 5}, 4, input);
  Network network(spec, 4, {.training = true});
  network.load(state);
  const std::vector<std::uint64_t> ids{0, 1, 2, 3};
  for (const bool training : {true, false}) {
    Plain expected = empty({4, 3, 2, 5});
    for (std::size_t c = 0; c < 3; ++c) {
      std::vector<std::size_t> of_channel;
      for (std::size_t i = 0; i < input.size(); ++i) {
        if (i / 10 % 3 == c) of_channel.push_back(i);
      }
      double mean = static_cast<double>(state.values("bn1.running_mean")[c]);
      double variance = static_cast<double>(state.values("bn1.running_var")[c]);
      if (training) {
        mean = variance = 0;
        for (const auto i : of_channel) mean += plain.values[i] / 40.0;
        for (const auto i : of_channel)
          variance += (plain.values[i] - mean) * (plain.values[i] - mean) / 40.0;
      }
      for (const auto i : of_channel) {
        expected.values[i] = (plain.values[i] - mean) / std::sqrt(variance + 1e-3) *
                                 static_cast<double>(state.values("bn1.weight")[c]) +
                             static_cast<double>(state.values("bn1.bias")[c]);
      }
    }
    const Pass pass{.training = training, .sample_ids = ids};
    expect_close(network.forward(pass, input), expected);
  }
}

}  // namespace
}  // namespace impart::nn::testing

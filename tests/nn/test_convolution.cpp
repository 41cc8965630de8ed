// Every candidate, in every direction, against plain loops in double; equal bits for any number of shards.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "impart/core/error.hpp"
#include "nn/kernels/convolution.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

std::size_t size_of(std::int64_t n) { return static_cast<std::size_t>(n); }

struct Case {
  std::int64_t channels, extent, filters, kernel;
  std::int64_t stride = 1, padding = 0, dilation = 1, groups = 1;
  std::int64_t width = 0;  // extent when 0
  std::int64_t samples = 2;
};

ConvGeometry geometry(const Case& c, std::int64_t shards) {
  const Window window{c.kernel, c.stride, c.padding, c.dilation};
  const std::int64_t width = c.width == 0 ? c.extent : c.width;
  return {.batch = shards * c.samples,
          .channels = c.channels,
          .height = c.extent,
          .width = width,
          .filters = c.filters,
          .out_height = window.output_extent(c.extent),
          .out_width = window.output_extent(width),
          .window = window,
          .groups = c.groups,
          .shards = shards};
}

std::string describe(const ConvGeometry& g) {
  return fmt::format("{}x{}x{}x{} to {}, kernel {} stride {} padding {} dilation {} groups {} shards {}",
                     g.batch, g.channels, g.height, g.width, g.filters, g.window.kernel, g.window.stride,
                     g.window.padding, g.window.dilation, g.groups, g.shards);
}

const std::vector<Case>& cases() {
  static const std::vector<Case> list{
      {1, 9, 4, 3},
      {3, 8, 20, 3, 1, 1},
      {3, 11, 33, 7, 2, 3},
      {2, 6, 3, 3, 1, 1, 1, 1, 9},
      {16, 8, 32, 3, 1, 1},
      {32, 8, 64, 3, 1, 1},
      {64, 5, 64, 3},
      {37, 7, 45, 3, 1, 1},
      {64, 8, 48, 3, 2, 1},
      {48, 7, 64, 1, 2, 0},
      {96, 6, 24, 1},
      {24, 6, 144, 1, 1, 0, 1, 1, 5},
      {300, 4, 40, 1},
      {16, 6, 20, 2, 2, 0},
      {20, 9, 17, 3, 3, 1},
      {16, 9, 16, 3, 1, 2, 2},
      {8, 12, 12, 3, 2, 3, 3},
      {32, 6, 64, 3, 1, 1, 1, 4},
      {12, 7, 18, 3, 2, 1, 1, 6},
      {16, 7, 16, 3, 1, 1, 1, 16},
      {5, 3, 6, 5, 1, 2},
      {4, 2, 6, 5, 1, 2},
      {64, 2, 96, 3, 1, 1},
      {10, 1, 30, 1},
      {70, 4, 30, 4, 1, 2},
      {6, 40, 5, 9, 4, 4},
  };
  return list;
}

/// Values of a convolution and its gradients in double, by the definition.
struct Plain {
  std::vector<double> y, grad_x, grad_weight, grad_bias;
};

struct Data {
  Values x, weight, bias, grad_y;
};

Data some_data(const ConvGeometry& g) {
  const auto values = [](std::int64_t n, std::uint64_t seed, double scale) {
    const auto v = normal_values(size_of(n), seed, scale);
    return Values(v.begin(), v.end());
  };
  return {values(g.batch * g.height * g.width * g.channels, 1, 1.0),
          values(g.filters * g.taps(), 2, std::sqrt(2.0 / static_cast<double>(g.taps()))),
          values(g.filters, 3, 1.0), values(g.batch * g.out_height * g.out_width * g.filters, 4, 1.0)};
}

Plain plain(const ConvGeometry& g, const Data& data) {
  Plain result;
  result.y.resize(data.grad_y.size());
  result.grad_x.resize(data.x.size());
  result.grad_weight.resize(data.weight.size());
  result.grad_bias.resize(data.bias.size());
  const std::int64_t channels = g.channels / g.groups;
  const std::int64_t filters = g.filters / g.groups;
  const std::int64_t kernel = g.window.kernel;
  std::size_t at = 0;
  for (std::int64_t n = 0; n < g.batch; ++n) {
    for (std::int64_t oy = 0; oy < g.out_height; ++oy) {
      for (std::int64_t ox = 0; ox < g.out_width; ++ox) {
        for (std::int64_t f = 0; f < g.filters; ++f, ++at) {
          const double grad = static_cast<double>(data.grad_y[at]);
          double sum = static_cast<double>(data.bias[size_of(f)]);
          result.grad_bias[size_of(f)] += grad;
          for (std::int64_t tap = 0; tap < kernel * kernel; ++tap) {
            const std::int64_t y = oy * g.window.stride - g.window.padding + tap / kernel * g.window.dilation;
            const std::int64_t x = ox * g.window.stride - g.window.padding + tap % kernel * g.window.dilation;
            if (y < 0 || x < 0 || y >= g.height || x >= g.width) continue;
            for (std::int64_t c = 0; c < channels; ++c) {
              const auto w = size_of((f * channels + c) * kernel * kernel + tap);
              const auto i =
                  size_of(((n * g.height + y) * g.width + x) * g.channels + f / filters * channels + c);
              sum += static_cast<double>(data.weight[w]) * static_cast<double>(data.x[i]);
              result.grad_x[i] += static_cast<double>(data.weight[w]) * grad;
              result.grad_weight[w] += static_cast<double>(data.x[i]) * grad;
            }
          }
          result.y[at] = sum;
        }
      }
    }
  }
  return result;
}

double error(std::span<const float> got, std::span<const double> expected) {
  const std::vector<float> rounded(expected.begin(), expected.end());
  return relative_difference(got, rounded);
}

struct Results {
  Values y, grad_x, grad_weight, grad_bias;
};

constexpr std::array kDirections{ConvDirection::kForward, ConvDirection::kData, ConvDirection::kWeights};

Values forward(const ConvCandidate& with, const ConvGeometry& g, const Data& data,
               const ConvOptions& options) {
  Scratch scratch;
  const auto kernel = with.forward(g, options, scratch);
  scratch.allocate();
  kernel->load(data.weight.data(), options.bias ? data.bias.data() : nullptr);
  Values y(data.grad_y.size(), std::nanf(""));
  kernel->run(data.x.data(), y.data());
  return y;
}

Values backward_data(const ConvCandidate& with, const ConvGeometry& g, const Data& data,
                     const Values* before) {
  Scratch scratch;
  const auto kernel = with.data(g, {}, scratch);
  scratch.allocate();
  kernel->load(data.weight.data());
  Values grad_x = before != nullptr ? *before : Values(data.x.size(), std::nanf(""));
  kernel->run(data.grad_y.data(), grad_x.data(), before != nullptr);
  return grad_x;
}

struct WeightGradients {
  Values weight, bias;
  friend bool operator==(const WeightGradients&, const WeightGradients&) = default;
};

WeightGradients backward_weights(const ConvCandidate& with, const ConvGeometry& g, const Data& data) {
  Scratch scratch;
  const auto kernel = with.weights(g, {.bias = true}, scratch);
  scratch.allocate();
  WeightGradients result{Values(data.weight.size(), std::nanf("")), Values(data.bias.size(), std::nanf(""))};
  kernel->run(data.x.data(), data.grad_y.data(), result.weight.data(), result.bias.data());
  return result;
}

// Far below what a candidate is admitted with (1e-4): Winograd's transforms lose a digit.
constexpr double kClose = 1e-5;

class Candidates : public ::testing::TestWithParam<const ConvCandidate*> {};

TEST_P(Candidates, ForwardMatchesPlainLoops) {
  for (const auto& shape : cases()) {
    const auto g = geometry(shape, 2);
    if (!GetParam()->serves(g, ConvDirection::kForward)) continue;
    SCOPED_TRACE(describe(g));
    auto data = some_data(g);
    EXPECT_LT(error(forward(*GetParam(), g, data, {.bias = true}), plain(g, data).y), kClose);
    auto rectified = plain(g, data).y;
    for (double& v : rectified) v = std::max(v, 0.0);
    EXPECT_LT(error(forward(*GetParam(), g, data, {.bias = true, .relu = true}), rectified), kClose);
    std::fill(data.bias.begin(), data.bias.end(), 0.0F);
    EXPECT_LT(error(forward(*GetParam(), g, data, {}), plain(g, data).y), kClose);
  }
}

TEST_P(Candidates, BackwardDataMatchesPlainLoops) {
  for (const auto& shape : cases()) {
    const auto g = geometry(shape, 2);
    if (!GetParam()->serves(g, ConvDirection::kData)) continue;
    SCOPED_TRACE(describe(g));
    const auto data = some_data(g);
    auto expected = plain(g, data).grad_x;
    EXPECT_LT(error(backward_data(*GetParam(), g, data, nullptr), expected), kClose);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += static_cast<double>(data.x[i]);
    EXPECT_LT(error(backward_data(*GetParam(), g, data, &data.x), expected), kClose);
  }
}

TEST_P(Candidates, BackwardWeightsMatchPlainLoops) {
  for (const auto& shape : cases()) {
    for (const std::int64_t shards : {1, 4}) {
      const auto g = geometry(shape, shards);
      if (!GetParam()->serves(g, ConvDirection::kWeights)) continue;
      SCOPED_TRACE(describe(g));
      const auto data = some_data(g);
      const auto expected = plain(g, data);
      const auto got = backward_weights(*GetParam(), g, data);
      EXPECT_LT(error(got.weight, expected.grad_weight), kClose);
      EXPECT_LT(error(got.bias, expected.grad_bias), kClose);
    }
  }
}

// The data of one shard of several.
Data shard_of(const Data& all, const ConvGeometry& g, std::int64_t shard) {
  const auto part = [shard](const Values& values, std::int64_t size) {
    return Values(values.begin() + shard * size, values.begin() + (shard + 1) * size);
  };
  return {part(all.x, g.shard_input()), all.weight, all.bias, part(all.grad_y, g.shard_output())};
}

TEST_P(Candidates, ShardsTogetherHaveTheBitsOfShardsAlone) {
  auto shapes = cases();
  shapes.push_back({16, 32, 20, 3, 1, 1});  // more pixels in a shard than are multiplied at once
  shapes.push_back({8, 20, 10, 1, 1, 0});
  for (const auto& shape : shapes) {
    const auto g = geometry(shape, 8);
    const auto alone = geometry(shape, 1);
    SCOPED_TRACE(describe(g));
    const auto data = some_data(g);
    Values y, grad_x;
    std::vector<WeightGradients> sums;
    const auto append = [](Values& to, const Values& from) { to.insert(to.end(), from.begin(), from.end()); };
    for (std::int64_t s = 0; s < g.shards; ++s) {
      const auto part = shard_of(data, g, s);
      if (GetParam()->serves(g, ConvDirection::kForward))
        append(y, forward(*GetParam(), alone, part, {.bias = true}));
      if (GetParam()->serves(g, ConvDirection::kData))
        append(grad_x, backward_data(*GetParam(), alone, part, nullptr));
      if (GetParam()->serves(g, ConvDirection::kWeights))
        sums.push_back(backward_weights(*GetParam(), alone, part));
    }
    if (!y.empty()) {
      EXPECT_EQ(y, forward(*GetParam(), g, data, {.bias = true}));
    }
    if (!grad_x.empty()) {
      EXPECT_EQ(grad_x, backward_data(*GetParam(), g, data, nullptr));
    }
    for (; sums.size() > 1; sums.resize(sums.size() / 2)) {
      for (std::size_t k = 0; k < sums.size() / 2; ++k) {
        auto left = sums[2 * k];
        for (std::size_t i = 0; i < left.weight.size(); ++i) left.weight[i] += sums[2 * k + 1].weight[i];
        for (std::size_t i = 0; i < left.bias.size(); ++i) left.bias[i] += sums[2 * k + 1].bias[i];
        sums[k] = left;
      }
    }
    if (!sums.empty()) {
      EXPECT_EQ(sums[0], backward_weights(*GetParam(), g, data));
    }
  }
}

TEST_P(Candidates, ServeWhateverTheBatch) {
  for (const auto& shape : cases()) {
    for (const auto direction : kDirections) {
      EXPECT_EQ(GetParam()->serves(geometry(shape, 1), direction),
                GetParam()->serves(geometry(shape, 8), direction));
    }
  }
}

std::vector<const ConvCandidate*> all_candidates() {
  std::vector<const ConvCandidate*> all;
  for (const auto& candidate : conv_candidates()) all.push_back(&candidate);
  return all;
}
INSTANTIATE_TEST_SUITE_P(Table, Candidates, ::testing::ValuesIn(all_candidates()),
                         [](const auto& candidate) { return std::string(candidate.param->name); });

TEST(ChooseConvolution, ServesEveryShapeAlikeForAnyBatch) {
  for (const auto& shape : cases()) {
    for (const auto direction : kDirections) {
      const auto one = geometry(shape, 1);
      const auto eight = geometry(shape, 8);
      const auto& chosen = choose_convolution(one, direction);
      EXPECT_TRUE(chosen.serves(eight, direction));
      EXPECT_EQ(chosen.name, choose_convolution(eight, direction).name);
    }
  }
}

TEST(ChooseConvolution, TakesTheOneNamed) {
  for (const auto& candidate : conv_candidates()) {
    for (const auto& shape : cases()) {
      const auto g = geometry(shape, 1);
      if (!candidate.serves(g, ConvDirection::kForward)) continue;
      EXPECT_EQ(choose_convolution(g, ConvDirection::kForward, candidate.name).name, candidate.name);
    }
  }
}

TEST(ChooseConvolution, RefusesAnUnknownName) {
  EXPECT_THROW(choose_convolution(geometry(cases()[0], 1), ConvDirection::kData, "fft"), Error);
}

}  // namespace
}  // namespace impart::nn::testing

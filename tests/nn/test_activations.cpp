// Kernels of activations against double precision, at any place and length.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "nn/kernels/kernels.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

using Kernel = void (*)(std::int64_t n, const float* x, float* y);

double normal_below(double x) { return 0.5 * std::erfc(-x * std::numbers::sqrt2 / 2); }

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu(double x) { return x * normal_below(x); }
double gelu_slope(double x) {
  return normal_below(x) + x * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
}

// The largest difference from `exact` on a fine grid, relative to values above 1.
double error_of(Kernel kernel, double (*exact)(double)) {
  std::vector<float> x;
  for (float v = -12; v <= 12; v += 1.0F / 1024) x.push_back(v);
  std::vector<float> y(x.size());
  kernel(static_cast<std::int64_t>(x.size()), x.data(), y.data());
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double wanted = exact(static_cast<double>(x[i]));
    worst = std::max(worst, std::abs(static_cast<double>(y[i]) - wanted) / std::max(1.0, std::abs(wanted)));
  }
  return worst;
}

TEST(Activations, AgreeWithDoublePrecision) {
  EXPECT_LT(error_of(kernels().sigmoid, sigmoid), 2e-7);
  EXPECT_LT(error_of(kernels().tanh, std::tanh), 2e-7);
  EXPECT_LT(error_of(kernels().gelu, gelu), 4e-7);
  const Kernel slope = [](std::int64_t n, const float* x, float* y) {
    const std::vector<float> ones(static_cast<std::size_t>(n), 1.0F);
    kernels().gelu_backward(n, x, ones.data(), y);
  };
  EXPECT_LT(error_of(slope, gelu_slope), 6e-7);
}

TEST(Activations, TanhKeepsSmallValues) {
  const float x = 1e-6F;
  float y = 0;
  kernels().tanh(1, &x, &y);
  EXPECT_FLOAT_EQ(y, x);
}

TEST(Activations, AValueHasTheSameBitsAtEveryPlace) {
  const auto x = normal_values(67, 1, 3.0);
  for (const Kernel kernel : {kernels().sigmoid, kernels().tanh, kernels().gelu}) {
    std::vector<float> whole(x.size());
    kernel(67, x.data(), whole.data());
    for (std::size_t i = 0; i < x.size(); ++i) {
      float alone = 0;
      kernel(1, &x[i], &alone);
      EXPECT_EQ(std::memcmp(&alone, &whole[i], sizeof alone), 0) << i;
    }
  }
}

TEST(Activations, ExtremesAndNoNumbers) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x{-infinity, -200, 200, infinity, nan};
  std::vector<float> y(x.size());
  kernels().sigmoid(5, x.data(), y.data());
  EXPECT_NEAR(y[0], 0, 1e-37);
  EXPECT_NEAR(y[1], 0, 1e-37);
  EXPECT_EQ(y[2], 1);
  EXPECT_EQ(y[3], 1);
  EXPECT_TRUE(std::isnan(y[4]));
  kernels().tanh(5, x.data(), y.data());
  EXPECT_EQ(y[0], -1);
  EXPECT_EQ(y[3], 1);
  EXPECT_TRUE(std::isnan(y[4]));
  kernels().gelu(5, x.data(), y.data());
  EXPECT_NEAR(y[1], 0, 1e-30);
  EXPECT_EQ(y[2], 200);
  EXPECT_TRUE(std::isnan(y[4]));
}

TEST(Softmax, AgreesWithDoublePrecisionForEveryLength) {
  for (std::size_t n = 1; n < 70; ++n) {
    const auto x = normal_values(n, n, 20.0);
    const double largest = static_cast<double>(*std::max_element(x.begin(), x.end()));
    double sum = 0;
    for (const float v : x) sum += std::exp(0.25 * (static_cast<double>(v) - largest));
    std::vector<float> y(n + 1, -7.0F);
    kernels().softmax(static_cast<std::int64_t>(n), 0.25F, x.data(), y.data());
    for (std::size_t i = 0; i < n; ++i) {
      EXPECT_NEAR(y[i], std::exp(0.25 * (static_cast<double>(x[i]) - largest)) / sum, 3e-7) << n;
    }
    EXPECT_EQ(y[n], -7.0F) << "writes behind a row of " << n;
  }
}

TEST(Softmax, LargeValuesDoNotOverflow) {
  const std::vector<float> x{3e38F, -3e38F, 3e38F};
  std::vector<float> y(3);
  kernels().softmax(3, 1.0F, x.data(), y.data());
  EXPECT_FLOAT_EQ(y[0], 0.5F);
  EXPECT_NEAR(y[1], 0, 1e-37);
  EXPECT_FLOAT_EQ(y[2], 0.5F);
}

}  // namespace
}  // namespace impart::nn::testing

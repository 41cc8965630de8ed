// Gradients of every layer against central finite differences.
#include <gtest/gtest.h>

#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

struct GradientCase {
  std::string name;
  LayerSpec spec;
  Shape sample;
  std::int64_t batch = 3;
  std::vector<LayerSpec> absorbed = {};
  bool trainable = true;
};

std::ostream& operator<<(std::ostream& out, const GradientCase& c) { return out << c.name; }

class Gradients : public ::testing::TestWithParam<GradientCase> {};

// d(loss)/d(values), loss = <probe, output>, by central differences with `step`.
std::vector<float> differences(LoneLayer& lone, std::span<float> values, std::span<const float> probe,
                               float step) {
  std::vector<float> slopes(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float value = values[i];
    values[i] = value + step;
    const double above = dot(lone.forward(), probe);
    values[i] = value - step;
    const double below = dot(lone.forward(), probe);
    values[i] = value;
    slopes[i] = static_cast<float>((above - below) / (2.0 * static_cast<double>(step)));
  }
  return slopes;
}

TEST_P(Gradients, AgreeWithFiniteDifferences) {
  const auto& p = GetParam();
  LoneLayer lone(p.spec, p.sample, p.batch, {.trainable = p.trainable, .absorbed = p.absorbed});
  // Far enough apart that a step crosses no kink of a rectifier or a maximum (of what a dense or a
  // convolution has computed, few enough cross one).
  const auto input = spread_values(lone.input().size(), 1, 2.0 / static_cast<double>(lone.input().size()));
  lone.input().assign(input.begin(), input.end());
  const float step = p.absorbed.empty() ? 0.4F / static_cast<float>(lone.input().size()) : 2e-4F;
  const auto probe = normal_values(lone.output.size(), 2);

  lone.forward();
  lone.backward({probe.begin(), probe.end()});
  const auto grad_input = lone.grad_input();
  const auto gradients = lone.gradients;
  const bool smooth = p.absorbed.empty() && p.spec.kind != "relu" && p.spec.kind != "max_pool2d";
  const float input_step = smooth ? 1e-2F : step;
  const double tolerance = smooth ? 2e-3 : 2e-2;
  EXPECT_LT(relative_difference(grad_input, differences(lone, lone.input(), probe, input_step)), tolerance);
  for (std::size_t k = 0; k < lone.tensors.size(); ++k) {
    if (lone.tensors[k].kind == StateKind::kBuffer) continue;
    const auto slopes = differences(lone, lone.state[k], probe, smooth ? 1e-2F : 2e-4F);
    EXPECT_LT(relative_difference(gradients[k], slopes), tolerance) << lone.tensors[k].name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layers, Gradients,
    ::testing::Values(
        GradientCase{"conv", conv2d(5, 3), {3, 7, 6}},
        GradientCase{"conv_wide", conv2d(16, 3), {16, 6, 6}, 2},
        GradientCase{"conv_strided_padded", conv2d(4, 3, 2, 1), {2, 7, 8}},
        GradientCase{"conv_no_bias", conv2d(3, 2, 1, 0, false), {1, 5, 5}},
        GradientCase{"conv_5x5", conv2d(8, 5, 1, 2), {4, 6, 6}, 2},
        GradientCase{"conv_1x1", conv2d(6, 1), {5, 4, 4}},
        GradientCase{"conv_relu", conv2d(4, 3), {2, 6, 6}, 2, {layer("relu")}},
        GradientCase{
            "conv_relu_pool", conv2d(8, 3), {1, 10, 11}, 2, {layer("relu"), pool("max_pool2d", 2, 2)}},
        GradientCase{"conv_pool", conv2d(16, 3), {16, 7, 7}, 2, {pool("max_pool2d", 2, 2)}},
        GradientCase{
            "conv_relu_pool_wide", conv2d(32, 3), {32, 7, 9}, 1, {layer("relu"), pool("max_pool2d", 2, 2)}},
        GradientCase{"conv_relu_pool_strided",
                     conv2d(16, 3, 2),
                     {16, 12, 12},
                     1,
                     {layer("relu"), pool("max_pool2d", 2, 2)}},
        GradientCase{"conv_relu_pool_padded",
                     conv2d(16, 3, 1, 1),
                     {16, 6, 6},
                     1,
                     {layer("relu"), pool("max_pool2d", 2, 2)}},
        GradientCase{"conv_relu_pool_overlapping",
                     conv2d(16, 3),
                     {16, 9, 9},
                     1,
                     {layer("relu"), pool("max_pool2d", 3, 2, 1)}},
        GradientCase{"dense", dense(7), {5}, 4}, GradientCase{"dense_no_bias", dense(3, false), {9}, 2},
        GradientCase{"dense_relu", dense(9), {6}, 4, {layer("relu")}},
        GradientCase{"max_pool", pool("max_pool2d", 2, 2), {3, 7, 6}},
        GradientCase{"max_pool_wide", pool("max_pool2d", 2, 2), {19, 5, 5}, 1},
        GradientCase{"max_pool_overlapping", pool("max_pool2d", 3, 2, 1), {2, 7, 8}},
        GradientCase{"max_pool_gaps", pool("max_pool2d", 2, 3), {2, 8, 7}},
        GradientCase{"max_pool_relu", pool("max_pool2d", 2, 2), {9, 6, 6}, 2, {layer("relu")}},
        GradientCase{"avg_pool", pool("avg_pool2d", 2, 2), {3, 7, 6}},
        GradientCase{"avg_pool_padded", pool("avg_pool2d", 3, 2, 1), {2, 7, 8}},
        GradientCase{"relu", layer("relu"), {2, 3, 4}}, GradientCase{"flatten", layer("flatten"), {3, 4, 5}},
        GradientCase{"dropout", layer("dropout", {{"rate", 0.4}}, "dropout1"), {40}},
        GradientCase{"batch_norm", layer("batch_norm"), {3, 4, 3}, 4},
        GradientCase{"batch_norm_features", layer("batch_norm"), {5}, 6},
        GradientCase{"batch_norm_relu", layer("batch_norm"), {3, 4, 3}, 4, {layer("relu")}},
        GradientCase{"batch_norm_relu6", layer("batch_norm"), {3, 4, 3}, 4, {layer("relu6")}},
        GradientCase{"batch_norm_frozen", layer("batch_norm"), {3, 4, 3}, 4, {}, false}),
    [](const auto& c) { return c.param.name; });

}  // namespace
}  // namespace impart::nn::testing

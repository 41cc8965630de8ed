// Every layer on its own: gradients against central finite differences, several shards at once against one
// after another, gradients added to others.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>

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
  std::vector<Shape> more = {};  // further inputs

  [[nodiscard]] std::vector<Shape> samples() const {
    std::vector<Shape> all{sample};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
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

// Far enough apart that a step crosses no kink of a rectifier or a maximum (of what a dense or a convolution
// has computed, few enough cross one). Each input has a gap of its own, so that no sum of two lies on a kink.
void fill_inputs(LoneLayer& lone) {
  for (std::size_t k = 0; k < lone.inputs.size(); ++k) {
    const std::size_t size = lone.inputs[k].size();
    const auto values =
        spread_values(size, 1 + k, (2.0 - 0.6 * static_cast<double>(k)) / static_cast<double>(size));
    lone.inputs[k].assign(values.begin(), values.end());
    for (std::size_t i = 0; i < size && !lone.differentiable; ++i)
      lone.inputs[k][i] = static_cast<float>(i * i % 5);
  }
}

bool has_kinks(const GradientCase& p) {
  static const std::vector<std::string> kinds{"relu", "relu6", "leaky_relu", "max_pool2d",
                                              "adaptive_max_pool2d"};
  return !p.absorbed.empty() || std::find(kinds.begin(), kinds.end(), p.spec.kind) != kinds.end();
}

TEST_P(Gradients, AgreeWithFiniteDifferences) {
  const auto& p = GetParam();
  LoneLayer lone(p.spec, p.samples(), p.batch, {.trainable = p.trainable, .absorbed = p.absorbed});
  fill_inputs(lone);
  const auto probe = normal_values(lone.output.size(), 2);

  lone.forward();
  lone.backward({probe.begin(), probe.end()});
  const auto grad_inputs = lone.grad_inputs;
  const auto gradients = lone.gradients;
  const bool smooth = !has_kinks(p);
  const double tolerance = smooth ? 2e-3 : 2e-2;
  for (std::size_t k = 0; k < lone.inputs.size() && lone.differentiable; ++k) {
    const float small = p.absorbed.empty() ? 0.4F / static_cast<float>(lone.inputs[k].size()) : 2e-4F;
    const auto slopes = differences(lone, lone.inputs[k], probe, smooth ? 1e-2F : small);
    EXPECT_LT(relative_difference(grad_inputs[k], slopes), tolerance) << "input " << k;
  }
  for (std::size_t k = 0; k < lone.tensors.size(); ++k) {
    if (lone.tensors[k].kind == StateKind::kBuffer) continue;
    const auto slopes = differences(lone, lone.state[k], probe, smooth ? 1e-2F : 2e-4F);
    EXPECT_LT(relative_difference(gradients[k], slopes), tolerance) << lone.tensors[k].name;
  }
}

void add_to(std::span<float> sum, std::span<const float> values) {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
}

bool bit_equal(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

TEST_P(Gradients, EightShardsAtOnceAreShardByShard) {
  constexpr std::int64_t kShards = 8;
  constexpr std::int64_t kShard = 2;
  const auto& p = GetParam();
  LoneLayer whole(p.spec, p.samples(), kShards * kShard,
                  {.shards = kShards, .trainable = p.trainable, .absorbed = p.absorbed});
  fill_inputs(whole);
  const auto probe = normal_values(whole.output.size(), 2);
  whole.forward();
  whole.backward({probe.begin(), probe.end()});

  std::vector<std::vector<std::vector<float>>> sums;  // of each shard, then in a tree
  const std::size_t part = probe.size() / kShards;
  for (std::size_t s = 0; s < kShards; ++s) {
    LoneLayer one(p.spec, p.samples(), kShard, {.trainable = p.trainable, .absorbed = p.absorbed});
    std::iota(one.ids.begin(), one.ids.end(), whole.ids[s * kShard]);
    const auto share = [&](const Values& values, std::size_t size) {
      return std::span<const float>(values).subspan(s * size, size);
    };
    for (std::size_t k = 0; k < one.inputs.size(); ++k) {
      const auto from = share(whole.inputs[k], one.inputs[k].size());
      std::copy(from.begin(), from.end(), one.inputs[k].begin());
    }
    EXPECT_TRUE(bit_equal(one.forward(), share(whole.output, part))) << "output of shard " << s;
    const auto grad = std::span<const float>(probe).subspan(s * part, part);
    one.backward({grad.begin(), grad.end()});
    for (std::size_t k = 0; k < one.inputs.size(); ++k) {
      EXPECT_TRUE(bit_equal(one.grad_inputs[k], share(whole.grad_inputs[k], one.grad_inputs[k].size())))
          << "input " << k << " of shard " << s;
    }
    sums.push_back(one.gradients);
  }
  for (std::size_t step = 1; step < kShards; step *= 2) {
    for (std::size_t s = 0; s < kShards; s += 2 * step) {
      for (std::size_t k = 0; k < sums[s].size(); ++k) add_to(sums[s][k], sums[s + step][k]);
    }
  }
  for (std::size_t k = 0; k < whole.tensors.size(); ++k) {
    EXPECT_TRUE(bit_equal(whole.gradients[k], sums[0][k])) << whole.tensors[k].name;
  }
}

TEST_P(Gradients, OverwriteOrAreAddedWhereTheLayerSaysSo) {
  const auto& p = GetParam();
  LoneLayer lone(p.spec, p.samples(), p.batch, {.trainable = p.trainable, .absorbed = p.absorbed});
  fill_inputs(lone);
  const auto probe = normal_values(lone.output.size(), 2);
  lone.forward();
  lone.backward({probe.begin(), probe.end()});
  auto sums = lone.grad_inputs;
  for (auto& grad : lone.grad_inputs) std::ranges::fill(grad, 1e3F);
  lone.backward({probe.begin(), probe.end()});
  for (std::size_t k = 0; k < sums.size(); ++k) {
    EXPECT_TRUE(bit_equal(lone.grad_inputs[k], sums[k])) << "input " << k << " without `add`";
  }
  if (lone.inputs.size() > 1) {
    EXPECT_TRUE(lone.layer->adds_gradients()) << "the network adds for one input alone";
  }
  if (!lone.layer->adds_gradients()) return;
  for (std::size_t k = 0; k < sums.size(); ++k) {
    const auto before = normal_values(sums[k].size(), 3 + k);
    std::copy(before.begin(), before.end(), lone.grad_inputs[k].begin());
    add_to(sums[k], before);
  }
  lone.backward({probe.begin(), probe.end()}, true);
  for (std::size_t k = 0; k < sums.size(); ++k) {
    EXPECT_LT(relative_difference(lone.grad_inputs[k], sums[k]), 1e-6) << "input " << k;
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
        GradientCase{"conv_grouped",
                     layer("conv2d", {{"filters", whole(6)}, {"kernel", whole(3)}, {"groups", whole(2)}}),
                     {4, 5, 6}},
        GradientCase{"conv_dilated",
                     layer("conv2d", {{"filters", whole(4)}, {"kernel", whole(3)}, {"dilation", whole(2)}}),
                     {3, 7, 6}},
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
        GradientCase{"avg_pool_gaps", pool("avg_pool2d", 2, 3), {2, 8, 7}},
        GradientCase{"global_avg_pool", layer("global_avg_pool2d"), {5, 4, 3}},
        GradientCase{"adaptive_avg_pool", adaptive("adaptive_avg_pool2d", 3), {3, 7, 8}},
        GradientCase{"adaptive_avg_pool_larger", adaptive("adaptive_avg_pool2d", 4), {2, 3, 5}},
        GradientCase{"adaptive_max_pool", adaptive("adaptive_max_pool2d", 3), {3, 7, 8}},
        GradientCase{"relu", layer("relu"), {2, 3, 4}}, GradientCase{"relu6", layer("relu6"), {2, 3, 4}},
        GradientCase{"leaky_relu", layer("leaky_relu", {{"negative_slope", 0.2}}), {2, 3, 4}},
        GradientCase{"gelu", layer("gelu"), {37}}, GradientCase{"sigmoid", layer("sigmoid"), {37}},
        GradientCase{"tanh", layer("tanh"), {37}}, GradientCase{"softmax", layer("softmax"), {37}, 2},
        GradientCase{"softmax_sequence", layer("softmax"), {3, 5}, 2},
        GradientCase{"dense_sequence", dense(7), {4, 5}},
        GradientCase{"dense_sequence_relu", dense(9), {3, 6}, 4, {layer("relu")}},
        GradientCase{"layer_norm", layer("layer_norm"), {21}},
        GradientCase{"layer_norm_sequence", layer("layer_norm", {{"epsilon", 0.01}}), {4, 9}},
        GradientCase{"group_norm", layer("group_norm", {{"groups", whole(3)}}), {6, 4, 5}},
        GradientCase{"group_norm_features", layer("group_norm", {{"groups", whole(2)}}), {10}},
        GradientCase{"embedding", layer("embedding", {{"vocabulary", whole(5)}, {"width", whole(4)}}), {7}},
        GradientCase{"positions", layer("positional_encoding"), {4, 5}},
        GradientCase{"positions_learned",
                     layer("positional_encoding", {{"encoding", std::string("learned")}}),
                     {4, 5}},
        GradientCase{"attention", attention(2), {5, 6}},
        GradientCase{"attention_causal", attention(3, true), {7, 12}, 2},
        GradientCase{"attention_wide", attention(2, true), {37, 80}, 1},
        GradientCase{"attention_dropout", attention(2, false, 0.3), {5, 6}},
        GradientCase{"attention_memory", attention(2), {5, 6}, 3, {}, true, {{4, 6}}},
        GradientCase{"attention_three", attention(2), {3, 6}, 3, {}, true, {{4, 6}, {4, 6}}},
        GradientCase{"add", layer("add"), {3, 4, 5}, 3, {}, true, {{3, 4, 5}}},
        GradientCase{"add_three", layer("add"), {7}, 3, {}, true, {{7}, {7}}},
        GradientCase{"add_relu", layer("add"), {8}, 3, {layer("relu")}, true, {{8}}},
        GradientCase{"concat", layer("concat"), {3, 4, 5}, 3, {}, true, {{2, 4, 5}}},
        GradientCase{"concat_features", layer("concat"), {3}, 3, {}, true, {{2}, {1}}},
        GradientCase{"concat_sequences", layer("concat"), {4, 3}, 3, {}, true, {{4, 2}}},
        GradientCase{"flatten", layer("flatten"), {3, 4, 5}},
        GradientCase{"dropout", layer("dropout", {{"rate", 0.4}}, "dropout1"), {40}},
        GradientCase{"batch_norm", layer("batch_norm"), {3, 4, 3}, 4},
        GradientCase{"batch_norm_features", layer("batch_norm"), {5}, 6},
        GradientCase{"batch_norm_relu", layer("batch_norm"), {3, 4, 3}, 4, {layer("relu")}},
        GradientCase{"batch_norm_relu6", layer("batch_norm"), {3, 4, 3}, 4, {layer("relu6")}},
        GradientCase{"batch_norm_frozen", layer("batch_norm"), {3, 4, 3}, 4, {}, false}),
    [](const auto& c) { return c.param.name; });

}  // namespace
}  // namespace impart::nn::testing

// Networks whose layers are looked into: values and gradients at taps, and gradients of the input.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "impart/core/error.hpp"
#include "impart/nn/part_network.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kBatch = 3;

/// Smooth, with a convolution that would take the batch norm and the rectifier behind it, a branch, and a
/// layer that works in place.
ModelSpec branched() {
  auto spec = model({2, 6, 6}, 4,
                    {conv2d(5, 3, 1, 1), layer("batch_norm"), layer("tanh"), conv2d(5, 3, 1, 1),
                     layer("batch_norm"), layer("add"), layer("tanh"), pool("avg_pool2d", 2, 2),
                     layer("flatten"), dense(7), layer("sigmoid"), dense(4)});
  spec.layers[5].from = {"bn2", "tanh1"};
  return spec;
}

NetworkOptions tapped_options(std::vector<std::string> taps, bool training, bool inner = false) {
  NetworkOptions options;
  options.training = training;
  options.taps = std::move(taps);
  options.inner = inner;
  return options;
}

struct Passes {
  explicit Passes(const ModelSpec& s, std::vector<std::string> taps = {}, bool inner = false)
      : spec(s),
        network(spec, kBatch, tapped_options(std::move(taps), /*training=*/true, inner)),
        state(initial_state(spec, 3)),
        inputs(normal_values(static_cast<std::size_t>(kBatch * spec.input.elements()), 4)),
        ids(kBatch) {
    std::iota(ids.begin(), ids.end(), 10);
    pass = {.training = true, .seed = 1, .step = 2, .sample_ids = ids};
  }

  std::span<const float> forward() {
    network.load(state);
    return network.forward(pass, inputs);
  }

  ModelSpec spec;
  Network network;
  StateDict state;
  std::vector<float> inputs;
  std::vector<std::uint64_t> ids;
  Pass pass;
};

std::vector<float> probe_of(std::size_t size, std::uint64_t seed) { return normal_values(size, 50 + seed); }

/// The loss <probe, output> + the same of each tap, after a forward pass.
double loss_of(Passes& p, std::size_t taps) {
  const auto output = p.forward();
  double loss = dot(output, probe_of(output.size(), 0));
  for (std::size_t k = 0; k < taps; ++k) {
    const auto tap = p.network.tap(k);
    loss += dot(tap, probe_of(tap.size(), k + 1));
  }
  return loss;
}

/// The gradient of that loss by all parameters.
StateDict gradient_of(Passes& p, std::size_t taps) {
  const auto output = p.forward();
  auto grad_output = probe_of(output.size(), 0);
  for (std::size_t k = 0; k < taps; ++k) {
    const auto to = p.network.tap_gradient(k);
    std::ranges::copy(probe_of(to.size(), k + 1), to.begin());
  }
  StateDict gradients(p.state.layout_ptr());
  p.network.backward(p.pass, grad_output, gradients);
  return gradients;
}

std::vector<float> slopes(Passes& p, std::size_t taps, std::span<float> values) {
  std::vector<float> result;
  for (float& value : values) {
    const float middle = value;
    value = middle + 1e-2F;
    const double above = loss_of(p, taps);
    value = middle - 1e-2F;
    const double below = loss_of(p, taps);
    value = middle;
    result.push_back(static_cast<float>((above - below) / 2e-2));
  }
  return result;
}

TEST(Taps, ValuesAreThoseThatTheLayersCompute) {
  const auto spec = branched();
  const std::vector<std::string> names{"conv1", "bn1",   "tanh1",    "bn2",    "add1",
                                       "tanh2", "pool1", "flatten1", "dense1", "sigmoid1"};
  for (const auto& name : names) {
    SCOPED_TRACE(name);
    Passes tapped(spec, {name});
    Passes plain(spec);
    const auto output = tapped.forward();
    EXPECT_LT(relative_difference(output, plain.forward()), 1e-5);
    // The same model, cut off behind that layer.
    auto cut = spec;
    const auto at = std::ranges::find(cut.layers, name, &LayerSpec::name);
    cut.layers.erase(at + 1, cut.layers.end());
    cut.classes = kAnyOutput;
    if (name == "bn2") cut.layers.back().from = {};
    Passes first(cut);
    const auto tap = tapped.network.tap(0);
    EXPECT_EQ(static_cast<std::int64_t>(tap.size()), kBatch * layer_shape(spec, name).elements());
    EXPECT_LT(relative_difference(tap, first.forward()), 1e-5);
  }
}

TEST(Taps, GradientsAddToWhatComesBack) {
  const std::vector<std::vector<std::string>> choices{{},
                                                      {"conv1"},
                                                      {"bn1"},
                                                      {"tanh1"},
                                                      {"bn2", "add1"},
                                                      {"tanh2", "dense1"},
                                                      {"conv2", "flatten1", "sigmoid1"}};
  for (const auto& taps : choices) {
    SCOPED_TRACE(::testing::PrintToString(taps));
    Passes p(branched(), taps);
    const auto gradients = gradient_of(p, taps.size());
    for (const auto& entry : p.state.layout().entries()) {
      if (entry.kind == StateKind::kBuffer || entry.name.ends_with("conv1.bias") ||
          entry.name.ends_with("conv2.bias"))
        continue;  // a batch norm takes a convolution's bias away, unless it is tapped
      EXPECT_LT(relative_difference(gradients.values(entry), slopes(p, taps.size(), p.state.values(entry))),
                5e-3)
          << entry.name;
    }
  }
}

TEST(Taps, WhatHasNoTapIsComputedAsBefore) {
  Passes tapped(branched(), {"tanh2"});
  Passes plain(branched());
  const auto size = plain.forward().size();
  EXPECT_EQ(size, tapped.forward().size());
  const auto taps = Network::memory_of(branched(), kBatch, tapped_options({"tanh2"}, /*training=*/true));
  const auto none = Network::memory_of(branched(), kBatch, tapped_options({}, /*training=*/true));
  EXPECT_GE(taps.activations, none.activations);
}

TEST(Taps, NoGradientWhereBackwardDoesNotCome) {
  const auto spec = branched();
  auto options = tapped_options({"tanh1", "sigmoid1"}, /*training=*/true);
  options.trainable = [](const std::string& name) { return name.starts_with("dense2"); };
  Network network(spec, kBatch, std::move(options));
  EXPECT_TRUE(network.tap_gradient(0).empty());
  EXPECT_TRUE(network.tap_gradient(1).empty());
  Network evaluating(spec, kBatch, tapped_options({"tanh1"}, /*training=*/false));
  EXPECT_TRUE(evaluating.tap_gradient(0).empty());
}

TEST(Taps, RefusesWhatIsNoLayerOrTheLast) {
  const auto refused = [](const std::string& tap, const char* wanted) {
    try {
      const Network network(branched(), kBatch, tapped_options({tap}, /*training=*/false));
      ADD_FAILURE() << "accepted " << tap;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUsage);
      EXPECT_THAT(e.what(), HasSubstr(wanted));
    }
  };
  refused("tanh9", "did you mean 'tanh");
  refused("dense2", "last");
}

/// The input of an inner network is channels last, and has a gradient.
TEST(InnerNetwork, GradientOfItsInput) {
  const std::vector<std::vector<LayerSpec>> choices{
      {conv2d(4, 1)},
      {conv2d(4, 3, 1, 1), layer("tanh"), layer("flatten"), dense(3)},
      {layer("flatten"), dense(3)},
      {layer("tanh"), layer("global_avg_pool2d"), layer("flatten"), dense(3)},
  };
  for (const auto& layers : choices) {
    SCOPED_TRACE(layers.front().kind);
    Passes p(model({3, 4, 4}, kAnyOutput, layers), {}, true);
    gradient_of(p, 0);
    const auto found = p.network.input_gradient();
    const std::vector<float> gradient(found.begin(), found.end());
    EXPECT_LT(relative_difference(gradient, slopes(p, 0, p.inputs)), 5e-3);
  }
}

TEST(InnerNetwork, ReadsChannelsLast) {
  const auto spec = model({3, 4, 5}, kAnyOutput, {conv2d(2, 1)});
  Passes outer(spec);
  Passes inner(spec, {}, true);
  const auto n = static_cast<std::size_t>(kBatch);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t c = 0; c < 3; ++c) {
      for (std::size_t p = 0; p < 20; ++p)
        inner.inputs[(i * 20 + p) * 3 + c] = outer.inputs[(i * 3 + c) * 20 + p];
    }
  }
  const auto one = outer.forward();
  const auto other = inner.forward();
  EXPECT_TRUE(std::ranges::equal(one, other));
}

TEST(PartNetwork, ServesBatchesOfAnySizeWithTheLatestValues) {
  auto spec = model({4}, kAnyOutput, {dense(2)});
  spec.layers[0].name = "hint.projection";
  const auto tensors = part_tensors(spec);
  ASSERT_EQ(tensors.size(), 2U);
  EXPECT_EQ(tensors[0].name, "hint.projection.weight");
  PartNetwork part(spec, {});
  auto state = initial_state(spec, 1);
  part.load(state);
  const auto inputs = normal_values(8, 1);
  const auto two = part.of(2).forward({}, inputs);
  const std::vector<float> before(two.begin(), two.end());
  const auto one = part.of(1).forward({}, std::span(inputs).last(4));
  EXPECT_EQ(std::vector<float>(one.begin(), one.end()), std::vector<float>(before.end() - 2, before.end()));
  for (auto& value : state.parameters()) value *= 2;
  part.load(state);
  EXPECT_NEAR(part.of(2).forward({}, inputs)[0], 2 * before[0], 1e-6);
}

}  // namespace
}  // namespace impart::nn::testing

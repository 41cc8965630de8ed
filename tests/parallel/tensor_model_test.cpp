#include "impart/parallel/tensor_model.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/zoo.hpp"

namespace impart::parallel {
namespace {

std::int64_t whole(int value) { return value; }

nn::ModelSpec model(Shape input, int classes, std::vector<nn::LayerSpec> layers) {
  nn::ModelSpec spec{"test", std::move(input), classes, std::move(layers)};
  nn::name_layers(spec);
  return spec;
}

nn::LayerSpec dense(int units) { return {"dense", "", {{"units", whole(units)}}}; }

/// What one pass gives.
struct Outcome {
  std::vector<float> output;
  StateDict gradients;
};

class SplitModel : public testing::Test {
 protected:
  /// The whole model on this rank alone, and its parts on all ranks, give the same output and gradients.
  void expect_same(const nn::ModelSpec& spec, std::int64_t shards = 2) {
    SCOPED_TRACE(spec.name + " on " + std::to_string(world_.size()));
    const auto state = randomised(spec);
    const TensorModel split(spec, world_);
    const auto expected = run(spec, state, shards);
    auto part = run(split.spec(), split.slice(state), shards);
    const auto gradients = split.gather(part.gradients);
    expect_near(expected.output, part.output, "output");
    for (const auto& entry : expected.gradients.layout().entries()) {
      expect_near(expected.gradients.values(entry), gradients.values(entry.name), entry.name);
    }
    const auto back = split.gather(split.slice(state));
    ASSERT_EQ(back.arena().size(), state.arena().size());
    EXPECT_EQ(std::memcmp(back.arena().data(), state.arena().data(), state.arena().size_bytes()), 0);
    EXPECT_TRUE(split.gather(split.slice(state), false).empty());
  }

 private:
  /// No zeros and ones, which could hide that a bias is added twice.
  static StateDict randomised(const nn::ModelSpec& spec) {
    auto state = nn::initial_state(spec, 1);
    Rng rng(1, "test");
    for (const auto& entry : state.layout().entries()) {
      const auto values = state.values(entry.name);
      if (entry.shape.rank() > 1) continue;
      for (auto& v : values) v += static_cast<float>(0.2 * rng.uniform_double());
    }
    return state;
  }

  static Outcome run(const nn::ModelSpec& spec, const StateDict& state, std::int64_t shards) {
    const std::int64_t batch = 4 * shards;
    nn::Network network(spec, batch, {.training = true, .shards = shards});
    network.load(state);
    Rng rng(2, "test");
    const bool words = spec.layers.front().kind == "embedding";
    std::vector<float> input(static_cast<std::size_t>(batch * spec.input.elements()));
    for (auto& v : input) {
      v = words ? static_cast<float>(rng.below(static_cast<std::uint64_t>(spec.classes)))
                : static_cast<float>(rng.normal());
    }
    std::vector<std::uint64_t> ids(static_cast<std::size_t>(batch));
    std::iota(ids.begin(), ids.end(), 7);
    const nn::Pass pass{.training = true, .seed = 3, .step = 5, .sample_ids = ids};
    const auto output = network.forward(pass, input);
    Outcome outcome{{output.begin(), output.end()}, StateDict(state.layout_ptr())};
    std::vector<float> gradient(output.size());
    for (auto& g : gradient) g = static_cast<float>(rng.normal());
    network.backward(pass, gradient, outcome.gradients);
    return outcome;
  }

  static void expect_near(std::span<const float> expected, std::span<const float> got,
                          const std::string& what) {
    ASSERT_EQ(expected.size(), got.size()) << what;
    float largest = 0;
    float difference = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      largest = std::max(largest, std::abs(expected[i]));
      difference = std::max(difference, std::abs(expected[i] - got[i]));
    }
    EXPECT_LE(difference, 1e-5F + 1e-4F * largest) << what;
  }

 protected:
  comm::Comm world_ = comm::Comm::world();
};

TEST_F(SplitModel, DenseLayersWithDropout) {
  expect_same(model({12}, 8,
                    {dense(16),
                     {"relu", "", {}},
                     {"dropout", "", {{"rate", 0.5}}},
                     dense(12),
                     {"gelu", "", {}},
                     dense(8)}));
  expect_same(model({8}, 3, {dense(3)}));  // by its inputs, of which each rank takes its part
}

TEST_F(SplitModel, Convolutions) {
  expect_same(nn::zoo_model("cnn", {}, 10));
  expect_same(model({3, 8, 8}, 5,
                    {{"conv2d", "", {{"filters", whole(8)}, {"kernel", whole(3)}}},
                     {"dropout", "", {{"rate", 0.25}}},
                     {"group_norm", "", {{"groups", whole(4)}}},
                     {"conv2d", "", {{"filters", whole(16)}, {"kernel", whole(3)}, {"groups", whole(4)}}},
                     {"batch_norm", "", {}},
                     {"avg_pool2d", "", {{"kernel", whole(2)}}},
                     {"flatten", "", {}},
                     dense(5)}));
}

TEST_F(SplitModel, ResidualAndDepthwiseNetworks) {
  const nn::SettingList narrow{{"stem", std::string("cifar")}, {"width", 0.125}};
  expect_same(nn::zoo_model("resnet18", {}, 10, narrow));
  const auto point = [](int filters) {
    return nn::LayerSpec{"conv2d", "", {{"filters", whole(filters)}, {"kernel", whole(1)}, {"bias", false}}};
  };
  expect_same(model({3, 8, 8}, 4,
                    {point(16),
                     {"batch_norm", "", {}},
                     {"relu6", "", {}},
                     {"conv2d", "", {{"filters", whole(16)}, {"kernel", whole(3)}, {"groups", whole(16)}}},
                     {"batch_norm", "", {}},
                     {"relu6", "", {}},
                     point(8),
                     {"global_avg_pool2d", "", {}},
                     {"flatten", "", {}},
                     dense(4)}));
}

TEST_F(SplitModel, Transformer) {
  expect_same(
      nn::zoo_model("transformer", {}, 20,
                    {{"layers", whole(2)}, {"width", whole(16)}, {"context", whole(6)}, {"dropout", 0.1}}));
}

/// Attention of several inputs, one of which is read by others, and twice by the same.
TEST_F(SplitModel, AttentionToAMemory) {
  const auto heads = [](const char* name, std::vector<std::string> from) {
    return nn::LayerSpec{"multi_head_attention", name, {{"heads", whole(4)}}, std::move(from)};
  };
  expect_same(model({6}, 20,
                    {{"embedding", "words", {{"vocabulary", whole(20)}, {"width", whole(8)}}},
                     {"layer_norm", "memory", {}},
                     {"dense", "queries", {{"units", whole(8)}}},
                     heads("two", {"queries", "memory"}),
                     heads("three", {"memory", "two", "two"}),
                     {"add", "sum", {}, {"three", "memory"}},
                     {"concat", "both", {}, {"sum", "queries"}},
                     {"flatten", "all", {}},
                     dense(20)}));
}

TEST_F(SplitModel, ManyClassesAreNotGatheredToTrain) {
  const auto objective = nn::make_cross_entropy();
  const auto rest = nn::make_mean_squared_error();
  const TensorModel many(model({12}, 1024, {dense(1024)}), world_);
  const TensorModel few(model({12}, 64, {dense(64)}), world_);
  const auto training = many.training(*objective);
  EXPECT_EQ(training.objective != nullptr, world_.size() > 1);
  EXPECT_EQ(training.spec.classes, 1024 / world_.size());
  EXPECT_EQ(many.spec().classes, 1024);  // to evaluate
  EXPECT_EQ(nn::check_model(training.spec).back(), Shape{1024 / world_.size()});
  EXPECT_EQ(many.training(*rest).objective, nullptr);
  EXPECT_EQ(few.training(*objective).objective, nullptr);
  EXPECT_EQ(few.training(*objective).spec, few.spec());
}

TEST_F(SplitModel, SumsPartsOfTensorsAndNotWholeOnes) {
  const TensorModel split(model({4}, 4, {dense(8), dense(4)}), world_);
  const std::vector<std::string> names{"dense1.weight", "dense2.bias"};
  std::vector<double> sums{1, 5};
  split.sum_parts(names, sums);
  EXPECT_EQ(sums[0], world_.size());
  EXPECT_EQ(sums[1], 5);
  EXPECT_TRUE(split.any(world_.rank() == world_.size() - 1));
  EXPECT_FALSE(split.any(false));
}

/// A loss that looks into the model.
class Tapping final : public nn::JointObjective {
 public:
  Tapping() : JointObjective(nn::make_cross_entropy()) {}
  [[nodiscard]] std::string_view kind() const override { return "tapping"; }
  [[nodiscard]] nn::ObjectiveNeeds needs() const override { return {.taps = {"dense1"}}; }
};

TEST_F(SplitModel, ObjectivesThatLookIntoTheModelAreRefused) {
  const TensorModel split(model({4}, 4, {dense(8), dense(4)}), world_);
  EXPECT_THROW(static_cast<void>(split.training(Tapping())), Error);
  EXPECT_EQ(split.training(*nn::make_cross_entropy()).objective, nullptr);
}

TEST_F(SplitModel, WhatCannotBeSplitIsRefusedOnAllRanks) {
  const auto odd = model({3}, 5, {dense(5)});
  if (world_.size() == 1) {  // which has nothing to split
    EXPECT_EQ(TensorModel(odd, world_).spec(), odd);
    return;
  }
  try {
    const TensorModel split(odd, world_);
    FAIL() << "split anyway";
  } catch (const Error& e) {
    EXPECT_TRUE(e.is_collective());
  }
}

}  // namespace
}  // namespace impart::parallel

#include "impart/parallel/tensor_plan.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/zoo.hpp"

namespace impart::parallel {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

nn::LayerSpec dense(std::int64_t units) { return {"dense", "", {{"units", units}}}; }
nn::LayerSpec conv(std::int64_t filters, std::int64_t groups = 1) {
  return {"conv2d", "", {{"filters", filters}, {"kernel", std::int64_t{3}}, {"groups", groups}}};
}

nn::ModelSpec model(Shape input, int classes, std::vector<nn::LayerSpec> layers) {
  nn::ModelSpec spec{"test", std::move(input), classes, std::move(layers)};
  nn::name_layers(spec);
  return spec;
}

std::vector<std::string> local_layers(const TensorPlan& plan) {
  std::vector<std::string> names;
  for (const auto& layer : plan.local.layers) names.push_back(layer.name);
  return names;
}

std::string message_of(const nn::ModelSpec& spec, std::int64_t ranks) {
  try {
    plan_tensors(spec, {0, ranks});
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    return e.what();
  }
  return "";
}

Shape local_shape(const TensorPlan& plan, const std::string& tensor) {
  const auto layout = nn::state_layout(plan.local);
  return layout->find(tensor)->shape;
}

TEST(TensorPlan, DenseLayersAreSplitByOutputsThenInputs) {
  const auto spec = model({12}, 6, {dense(8), {"relu", "", {}}, dense(10), dense(6)});
  const auto plan = plan_tensors(spec, {1, 2});
  EXPECT_EQ(plan.layers.at("dense1"), LayerSplit::kOutputs);
  EXPECT_EQ(plan.layers.at("relu1"), LayerSplit::kChannels);
  EXPECT_EQ(plan.layers.at("dense2"), LayerSplit::kInputs);
  EXPECT_EQ(plan.layers.at("dense3"), LayerSplit::kOutputs);
  EXPECT_THAT(local_layers(plan), ElementsAre("dense1", "relu1", "dense2", "dense3", "dense3.gather"));
  EXPECT_EQ(local_shape(plan, "dense1.weight"), (Shape{4, 12}));
  EXPECT_EQ(local_shape(plan, "dense1.bias"), Shape{4});
  EXPECT_EQ(local_shape(plan, "dense2.weight"), (Shape{10, 4}));
  EXPECT_EQ(local_shape(plan, "dense2.bias"), Shape{10});  // added once, after the sum
  EXPECT_EQ(plan.slices.at("dense1.weight").axis, 0U);
  EXPECT_EQ(plan.slices.at("dense2.weight").axis, 1U);
  EXPECT_FALSE(plan.slices.contains("dense2.bias"));
  // The sum of dense2 and the gather forward; backward the sum for dense3, but none for the model's input.
  EXPECT_DOUBLE_EQ(plan.traffic.forward, 10 * 4 + 6 * 4 / 2);
  EXPECT_DOUBLE_EQ(plan.traffic.backward, 10 * 4);
}

TEST(TensorPlan, ConvolutionsAlternateAndResidualsMeetInOneForm) {
  const auto spec = nn::zoo_model("resnet18", {}, 10, {{"stem", std::string("cifar")}, {"width", 0.25}});
  const auto plan = plan_tensors(spec, {0, 4});
  EXPECT_EQ(plan.layers.at("conv1"), LayerSplit::kOutputs);
  EXPECT_EQ(plan.layers.at("bn1"), LayerSplit::kChannels);
  EXPECT_EQ(plan.layers.at("layer1.0.conv1"), LayerSplit::kInputs);
  EXPECT_EQ(plan.layers.at("layer1.0.bn1"), LayerSplit::kWhole);
  EXPECT_EQ(plan.layers.at("layer1.0.conv2"), LayerSplit::kOutputs);
  EXPECT_EQ(local_shape(plan, "layer1.0.conv1.weight"), (Shape{16, 4, 3, 3}));
  nn::check_model(plan.local);
}

TEST(TensorPlan, GroupsOfAConvolutionStayTogether) {
  const auto spec = model({8, 6, 6}, 4, {conv(8, 4), {"flatten", "", {}}, dense(4)});
  const auto plan = plan_tensors(spec, {0, 2});
  EXPECT_THAT(local_layers(plan), ElementsAre("input.slice", "conv1", "flatten1", "dense1"));
  EXPECT_EQ(plan.layers.at("conv1"), LayerSplit::kChannels);
  EXPECT_EQ(local_shape(plan, "conv1.weight"), (Shape{4, 2, 3, 3}));
  EXPECT_THAT(message_of(spec, 8),
              AllOf(HasSubstr("'conv1'"), HasSubstr("groups"), HasSubstr("tensor = 1, 2, 4 would do")));
}

TEST(TensorPlan, ATransformerBlockSumsTwiceInEachDirection) {
  const auto spec =
      nn::zoo_model("transformer", {}, 20,
                    {{"layers", std::int64_t{1}}, {"width", std::int64_t{16}}, {"context", std::int64_t{4}}});
  const auto plan = plan_tensors(spec, {1, 2});
  EXPECT_EQ(plan.layers.at("layers.0.self_attn"), LayerSplit::kHeads);
  EXPECT_EQ(plan.layers.at("layers.0.linear1"), LayerSplit::kOutputs);
  EXPECT_EQ(plan.layers.at("layers.0.activation"), LayerSplit::kChannels);
  EXPECT_EQ(plan.layers.at("layers.0.linear2"), LayerSplit::kInputs);
  EXPECT_EQ(local_shape(plan, "layers.0.self_attn.in_proj_weight"), (Shape{24, 16}));
  EXPECT_EQ(local_shape(plan, "layers.0.self_attn.out_proj.weight"), (Shape{16, 8}));
  EXPECT_EQ(plan.slices.at("layers.0.self_attn.in_proj_bias").blocks, 3);
  EXPECT_EQ(local_shape(plan, "embedding.weight"), (Shape{20, 8}));
  const double sum = 4.0 * 16 * 4;  // steps x width x bytes
  // The gathers of the embedding and of the head's outputs, and the sum for the head.
  EXPECT_DOUBLE_EQ(plan.traffic.forward, sum / 2 + 2 * sum + 4 * 20 * 4 / 2);
  EXPECT_DOUBLE_EQ(plan.traffic.backward, 2 * sum + sum);
}

TEST(TensorPlan, SaysWhatWouldFit) {
  EXPECT_THAT(
      message_of(nn::zoo_model("lenet5", {}, 10), 4),
      AllOf(HasSubstr("model 'lenet5'"), HasSubstr("conv1"), HasSubstr("expected a divisor of 1 or 6"),
            HasSubstr("got 4"), HasSubstr("tensor = 1, 2, 3, 6 would do")));
  EXPECT_THAT(message_of(nn::zoo_model("transformer", {}, 16), 8),
              AllOf(HasSubstr("heads"), HasSubstr("a divisor of 4"), HasSubstr("tensor = 1, 2, 4 would do")));
  // A model that is wrong by itself is not the axis' fault.
  EXPECT_THAT(message_of(model({4}, 3, {dense(4)}), 2),
              AllOf(HasSubstr("classes"), Not(HasSubstr("would do"))));
}

TEST(TensorPlan, OneRankHasTheWholeModel) {
  for (const auto* name : {"mlp", "cnn", "lenet5"}) {
    const auto spec = nn::zoo_model(name, {}, 10);
    const auto plan = plan_tensors(spec, {0, 1});
    EXPECT_TRUE(plan.slices.empty()) << name;
    EXPECT_EQ(plan.traffic.forward, 0) << name;
  }
}

}  // namespace
}  // namespace impart::parallel

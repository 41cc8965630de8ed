// Ten steps of each optimizer against PyTorch's, and the papers', as optimizer_reference.py has written them.
#include <gtest/gtest.h>

#include <cmath>

#include "impart/train/optimizer.hpp"
#include "impart/train/transform.hpp"
#include "records.hpp"

namespace impart::train {
namespace {

constexpr int kSteps = 10;

std::map<std::string, SettingTable> cases() {
  return {
      {"sgd", {{"learning_rate", 0.1}, {"weight_decay", 0.01}}},
      {"momentum", {{"learning_rate", 0.1}, {"momentum", 0.9}, {"weight_decay", 0.01}}},
      {"nesterov", {{"learning_rate", 0.1}, {"momentum", 0.9}, {"nesterov", true}, {"weight_decay", 0.01}}},
      {"adam", {{"kind", "adam"}, {"learning_rate", 0.05}, {"weight_decay", 0.1}}},
      {"adamw", {{"kind", "adamw"}, {"learning_rate", 0.05}, {"weight_decay", 0.1}}},
      {"rmsprop", {{"kind", "rmsprop"}, {"learning_rate", 0.02}, {"weight_decay", 0.1}}},
      {"rmsprop_momentum", {{"kind", "rmsprop"}, {"learning_rate", 0.02}, {"momentum", 0.8}, {"alpha", 0.9}}},
      {"rmsprop_centered", {{"kind", "rmsprop"}, {"learning_rate", 0.02}, {"centered", true}}},
      {"rmsprop_both", {{"kind", "rmsprop"}, {"learning_rate", 0.02}, {"momentum", 0.8}, {"centered", true}}},
      {"clip_norm", {{"learning_rate", 0.1}, {"momentum", 0.9}}},
      {"clip_value", {{"learning_rate", 0.1}, {"momentum", 0.9}}},
      {"lars", {{"kind", "lars"}, {"learning_rate", 0.5}, {"weight_decay", 1e-2}, {"trust", 0.02}}},
      {"lamb", {{"kind", "lamb"}, {"learning_rate", 0.02}, {"weight_decay", 0.05}}},
  };
}

// The tensors' values one after the other, without what lies between them in an arena.
void put(std::span<const double> values, StateDict& state) {
  std::size_t from = 0;
  for (const auto& entry : state.layout().entries()) {
    for (float& value : state.values(entry)) value = static_cast<float>(values[from++]);
  }
}

TEST(OptimizerTorch, TenStepsAgree) {
  if (!std::filesystem::exists(IMPART_REFERENCE))
    GTEST_SKIP() << "no reference values: install Debian's python3-torch to compare with PyTorch";
  const auto reference = testing_support::read_records(IMPART_REFERENCE);
  const std::span<const double> before = reference.at("before");
  const std::span<const double> gradients = reference.at("gradients");
  const auto layout = std::make_shared<StateLayout>(std::vector<StateEntry>{
      {"conv.weight", Shape{6, 4, 3, 3}}, {"conv.bias", Shape{6}}, {"fc.weight", Shape{5, 33}}});
  EXPECT_EQ(reference.size(), 2 + cases().size());
  for (const auto name : optimizers().names()) EXPECT_TRUE(cases().contains(std::string(name))) << name;
  for (const auto& [name, settings] : cases()) {
    SCOPED_TRACE(name);
    StateDict state(layout);
    StateDict gradient(layout);
    put(before, state);
    Optimizer optimizer(make_optimizer(settings), layout, {});
    TransformChain transforms({}, layout);
    if (name == "clip_norm") transforms = TransformChain({make_clip_norm(3)}, layout);
    if (name == "clip_value") transforms = TransformChain({make_clip_value(0.5)}, layout);
    for (int step = 0; step < kSteps; ++step) {
      put(gradients.subspan(static_cast<std::size_t>(step) * before.size(), before.size()), gradient);
      transforms.apply(state, gradient, step, optimizer.parameters());
      optimizer.update(state, gradient, 1.0, step);
    }
    // Against the distance that the ten steps went.
    double error = 0;
    double distance = 0;
    std::size_t from = 0;
    const auto& after = reference.at("after." + name);
    for (const auto& entry : layout->entries()) {
      for (const float value : state.values(entry)) {
        error += std::pow(static_cast<double>(value) - after[from], 2);
        distance += std::pow(after[from] - before[from], 2);
        ++from;
      }
    }
    EXPECT_LT(std::sqrt(error / distance), 2e-6);
  }
}

}  // namespace
}  // namespace impart::train

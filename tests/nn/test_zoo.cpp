// Models of the zoo: their names, shapes, counts and settings.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "impart/core/error.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/zoo.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

std::string text(const char* value) { return value; }

std::int64_t parameter_count(const ModelSpec& spec) {
  return static_cast<std::int64_t>(state_layout(spec)->parameter_count());
}

std::string failure(const std::string& name, const SettingTable& settings, const Shape& input = {}) {
  try {
    check_model(zoo_model(name, input, 10, settings));
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Zoo, ParameterCountsAreTorchvisions) {
  EXPECT_EQ(parameter_count(zoo_model("resnet18", {}, 1000)), 11'689'512);
  EXPECT_EQ(parameter_count(zoo_model("resnet50", {}, 1000)), 25'557'032);
  EXPECT_EQ(parameter_count(zoo_model("vgg16", {}, 1000)), 138'357'544);
  EXPECT_EQ(parameter_count(zoo_model("vgg16_bn", {}, 1000)), 138'365'992);
  EXPECT_EQ(parameter_count(zoo_model("mobilenet_v2", {}, 1000)), 3'504'872);
}

TEST(Zoo, ParameterCountsOfBenchmarks) {
  EXPECT_EQ(parameter_count(zoo_benchmark("resnet18")), 11'173'962);
  EXPECT_EQ(parameter_count(zoo_benchmark("resnet50")), 23'520'842);
  EXPECT_EQ(parameter_count(zoo_benchmark("vgg16")), 15'245'130);
  EXPECT_EQ(parameter_count(zoo_benchmark("mobilenet_v2")), 2'236'682);
  EXPECT_EQ(parameter_count(zoo_benchmark("cnn")), 93'322);
  EXPECT_EQ(parameter_count(zoo_benchmark("lenet5")), 61'706);
  EXPECT_EQ(parameter_count(zoo_benchmark("mlp")), 2'395'210);
  for (const auto* name : {"linear", "logistic", "svm"})
    EXPECT_EQ(parameter_count(zoo_benchmark(name)), 7'850);
}

TEST(Zoo, NamesAndTheirOrderAreTorchvisions) {
  const auto names = [](const char* model) {
    std::vector<std::string> all;
    const auto layout = state_layout(zoo_benchmark(model));
    for (const auto& entry : layout->entries()) all.push_back(entry.name);
    return all;
  };
  const auto resnet = names("resnet18");
  const std::vector<std::string> start{"conv1.weight",     "bn1.weight",      "bn1.bias",
                                       "bn1.running_mean", "bn1.running_var", "layer1.0.conv1.weight"};
  EXPECT_EQ(std::vector(resnet.begin(), resnet.begin() + 6), start);
  const auto shortcut = std::find(resnet.begin(), resnet.end(), "layer2.0.downsample.0.weight");
  ASSERT_NE(shortcut, resnet.end());
  EXPECT_EQ(*(shortcut - 1), "layer2.0.bn2.running_var");
  EXPECT_EQ(*(shortcut + 1), "layer2.0.downsample.1.weight");
  EXPECT_EQ(resnet.back(), "fc.bias");
  const auto vgg = names("vgg16");
  EXPECT_EQ(vgg[2], "features.2.weight");
  EXPECT_EQ(vgg.back(), "classifier.6.bias");
  const auto mobile = names("mobilenet_v2");
  EXPECT_EQ(mobile[0], "features.0.0.weight");
  EXPECT_EQ(mobile[5], "features.1.conv.0.0.weight");
  EXPECT_EQ(mobile[10], "features.1.conv.1.weight");
  EXPECT_EQ(mobile.back(), "classifier.1.bias");
}

TEST(Zoo, WidthGoesToMultiplesOfEight) {
  const auto filters = [](const char* name, double width, const std::string& tensor) {
    const auto layout = state_layout(zoo_model(name, {}, 10, {{"width", width}}));
    return layout->find(tensor)->shape[0];
  };
  EXPECT_EQ(filters("resnet18", 0.5, "conv1.weight"), 32);
  EXPECT_EQ(filters("resnet18", 0.3, "conv1.weight"), 24);
  // torchvision's mobilenet_v2(width_mult=0.35) has 16, 8 and 1280 here.
  EXPECT_EQ(filters("mobilenet_v2", 0.35, "features.0.0.weight"), 16);
  EXPECT_EQ(filters("mobilenet_v2", 0.35, "features.2.conv.2.weight"), 8);
  EXPECT_EQ(filters("mobilenet_v2", 0.35, "features.18.0.weight"), 1280);
  EXPECT_EQ(filters("mobilenet_v2", 1.4, "features.18.0.weight"), 1792);
}

TEST(Zoo, AllBatchNormsAreSyncedOrNone) {
  for (const auto* name : {"resnet18", "resnet50", "vgg16_bn", "mobilenet_v2"}) {
    for (const bool sync : {false, true}) {
      const auto spec = zoo_model(name, {}, 10, {{"sync", sync}});
      for (const auto& layer : spec.layers) {
        EXPECT_EQ(is_synced(layer), sync && layer.kind == "batch_norm") << name << ": " << layer.name;
      }
      EXPECT_EQ(synced_layer(spec).has_value(), sync);
    }
  }
  EXPECT_THROW(zoo_model("vgg16", {}, 10, {{"sync", true}}), Error);
}

TEST(Zoo, InitialValuesAreTorchvisions) {
  const auto spec = zoo_benchmark("resnet18");
  const auto state = initial_state(spec, 3);
  const auto deviation = [&](const std::string& name) {
    double sum = 0;
    const auto values = state.values(name);
    for (const double v : values) sum += v * v;
    return std::sqrt(sum / static_cast<double>(values.size()));
  };
  EXPECT_NEAR(deviation("layer4.0.conv1.weight"), std::sqrt(2.0 / (512 * 9)), 1e-4);
  EXPECT_NEAR(deviation("fc.weight"), std::sqrt(1.0 / 512 / 3), 1e-3);
  EXPECT_NEAR(deviation("fc.bias"), std::sqrt(1.0 / 512 / 3), 2e-2);
  EXPECT_GT(deviation("fc.bias"), 0);
  EXPECT_EQ(deviation("bn1.weight"), 1);
}

TEST(Zoo, EveryModelSaysWhatItReads) {
  for (const auto& model : zoo().document(10)) {
    EXPECT_FALSE(model.text.empty()) << model.name;
    for (const auto& setting : model.settings)
      EXPECT_FALSE(setting.text.empty()) << model.name << " " << setting.key;
  }
}

TEST(Zoo, SettingsOfMlp) {
  const auto spec = zoo_model("mlp", {64}, 10, {{"hidden", std::vector<std::int64_t>{32, 16}}});
  EXPECT_EQ(parameter_count(spec), 64 * 32 + 32 + 32 * 16 + 16 + 16 * 10 + 10);
  EXPECT_EQ(model_spec_from_json(to_json(spec)), spec);
  EXPECT_EQ(parameter_count(zoo_model("mlp", {64}, 10, {{"hidden", std::vector<std::int64_t>{}}})), 650);
}

TEST(Zoo, ObjectivesExist) {
  for (const auto name : zoo().names()) EXPECT_NO_THROW(make_objective(zoo_objective(name))) << name;
  EXPECT_EQ(zoo_objective("svm"), "multiclass_hinge");
}

TEST(Zoo, BadInputNamesWhatIsWrong) {
  const auto contains = [](const std::string& what, const std::string& part) {
    return ::testing::AssertionResult(what.find(part) != std::string::npos) << what;
  };
  EXPECT_TRUE(contains(failure("resnet81", {}), "did you mean 'resnet18'?"));
  EXPECT_TRUE(contains(failure("resnet18", {{"stm", text("cifar")}}), "did you mean 'stem'?"));
  EXPECT_TRUE(contains(failure("resnet18", {{"stem", text("cifer")}}), "did you mean 'cifar'?"));
  EXPECT_TRUE(contains(failure("cnn", {{"width", 0.5}}), "unknown key 'width'"));
  EXPECT_TRUE(
      contains(failure("resnet18", {{"width", 0.0}}), "width: expected at least 0.01 and below 64, got 0"));
  EXPECT_TRUE(contains(failure("mlp", {{"hidden", std::int64_t{5}}}),
                       "hidden: expected an array of integers, got the integer 5"));
  EXPECT_TRUE(contains(failure("mlp", {{"hidden", std::vector<std::int64_t>{5, 0}}}),
                       "hidden: expected at least 1 and at most 1048576, got 0"));
  EXPECT_TRUE(contains(failure("resnet18", {}, {784}), "layer 'conv1' (conv2d)"));
  EXPECT_TRUE(contains(failure("vgg16", {{"stem", text("cifar")}}, {3, 16, 16}), "features.30"));
}

}  // namespace
}  // namespace impart::nn::testing

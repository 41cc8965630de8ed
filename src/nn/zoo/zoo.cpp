// The models of the zoo. A new one is a file in this folder, and a line here.
#include "impart/nn/zoo.hpp"

#include <algorithm>

#include "nn/zoo/models.hpp"

namespace impart::nn {

namespace {

constexpr Registry<ZooModel, int>::Entry kZoo[] = {
    {"resnet18", "residual network of 18 layers (He et al. 2016)", resnet18},
    {"resnet50", "residual network of 50 layers with bottlenecks (He et al. 2016)", resnet50},
    {"vgg16", "16 layers of 3x3 convolutions and dense ones (Simonyan and Zisserman 2015)", vgg16},
    {"vgg16_bn", "vgg16 with batch norms", vgg16_bn},
    {"mobilenet_v2", "inverted residuals with depthwise convolutions (Sandler et al. 2018)", mobilenet_v2},
    {"cnn", "three 3x3 convolutions with max pooling between, two dense layers; for 1x28x28", cnn},
    {"lenet5", "LeNet-5 with every map connected (LeCun et al. 1998); for 1x28x28", lenet5},
    {"mlp", "dense layers with rectifiers between", mlp},
    {"transformer", "predicts the next word of a sequence of word indices", transformer},
    {"linear", "one dense layer, trained on squared errors", linear},
    {"logistic", "one dense layer, trained on cross entropy", logistic},
    {"svm", "one dense layer, trained on the multiclass hinge loss", svm},
};

}  // namespace

const Registry<ZooModel, int>& zoo() {
  static constexpr Registry<ZooModel, int> registry("arch", kZoo);
  return registry;
}

ModelSpec zoo_model(std::string_view name, const Shape& input, int classes, const SettingTable& settings) {
  const auto& entry = zoo().get(name);
  auto made = read_settings(settings, "", [&](Settings& reader) { return entry.make(reader, classes); });
  return {std::string(name), input.rank() == 0 ? made.input : input, classes, std::move(made.layers)};
}

ModelSpec zoo_benchmark(std::string_view name) {
  constexpr int kClasses = 10;
  std::vector<SettingDoc> docs;
  auto documenting = Settings::defaults(&docs);
  zoo().get(name).make(documenting, kClasses);
  const bool has_stem = std::ranges::find(docs, "stem", &SettingDoc::key) != docs.end();
  return zoo_model(name, {}, kClasses, has_stem ? SettingTable{{"stem", "cifar"}} : SettingTable{});
}

std::string_view zoo_objective(std::string_view name) {
  auto defaults = Settings::defaults();
  return zoo().get(name).make(defaults, 1).objective;
}

}  // namespace impart::nn

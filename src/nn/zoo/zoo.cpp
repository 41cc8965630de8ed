#include "impart/nn/zoo.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <span>

#include "impart/core/error.hpp"
#include "impart/core/suggest.hpp"
#include "nn/zoo/zoo_models.hpp"

namespace impart::nn {

namespace {

SettingList window(std::int64_t filters, std::int64_t kernel, std::int64_t padding = 0) {
  return {{"filters", filters}, {"kernel", kernel}, {"padding", padding}};
}

SettingList units(std::int64_t count) { return {{"units", count}}; }

ZooModel cnn(const Settings& /*settings*/, int classes) {
  ZooModel model{{1, 28, 28}, {}};
  model.add("conv2d", "conv1", window(32, 3));
  model.add("relu", "relu1");
  model.add("max_pool2d", "pool1", {{"kernel", std::int64_t{2}}});
  model.add("conv2d", "conv2", window(64, 3));
  model.add("relu", "relu2");
  model.add("max_pool2d", "pool2", {{"kernel", std::int64_t{2}}});
  model.add("conv2d", "conv3", window(64, 3));
  model.add("relu", "relu3");
  model.add("flatten", "flatten1");
  model.add("dense", "dense1", units(64));
  model.add("relu", "relu4");
  model.add("dense", "dense2", units(classes));
  return model;
}

ZooModel lenet5(const Settings& /*settings*/, int classes) {
  // Glorot's values suit tanh, which He's would saturate.
  const auto glorot = [](SettingList settings) {
    settings.emplace_back("init", std::string("glorot"));
    return settings;
  };
  ZooModel model{{1, 28, 28}, {}};
  model.add("conv2d", "conv1", glorot(window(6, 5, 2)));
  model.add("tanh", "tanh1");
  model.add("avg_pool2d", "pool1", {{"kernel", std::int64_t{2}}});
  model.add("conv2d", "conv2", glorot(window(16, 5)));
  model.add("tanh", "tanh2");
  model.add("avg_pool2d", "pool2", {{"kernel", std::int64_t{2}}});
  model.add("flatten", "flatten");
  model.add("dense", "fc1", glorot(units(120)));
  model.add("tanh", "tanh3");
  model.add("dense", "fc2", glorot(units(84)));
  model.add("tanh", "tanh4");
  model.add("dense", "fc3", glorot(units(classes)));
  return model;
}

ZooModel mlp(const Settings& settings, int classes) {
  ZooModel model{{1, 28, 28}, {}};
  model.add("flatten", "flatten");
  int number = 0;
  for (const auto width : settings.integers_or("hidden", {1200, 1200}, 1, kMaxExtent)) {
    ++number;
    model.add("dense", fmt::format("fc{}", number), units(width));
    model.add("relu", fmt::format("relu{}", number));
  }
  model.add("dense", fmt::format("fc{}", number + 1), units(classes));
  return model;
}

ZooModel one_layer(const Settings& /*settings*/, int classes) {
  ZooModel model{{1, 28, 28}, {}};
  model.add("flatten", "flatten");
  model.add("dense", "fc", {{"units", std::int64_t{classes}}, {"init", std::string("uniform")}});
  return model;
}

constexpr std::array<std::string_view, 3> kResNet{"stem", "width", "sync"};
constexpr std::array<std::string_view, 3> kVgg{"stem", "width", "dropout"};
constexpr std::array<std::string_view, 4> kNormalised{"stem", "width", "dropout", "sync"};
constexpr std::array<std::string_view, 1> kHidden{"hidden"};
constexpr std::array<std::string_view, 6> kTransformer{"layers", "width",   "heads",
                                                       "ff",     "context", "dropout"};

struct Entry {
  std::string_view name;
  ZooModel (*make)(const Settings& settings, int classes);
  std::span<const std::string_view> settings;
  std::string_view objective = "cross_entropy";
};

constexpr Entry kZoo[] = {
    {"resnet18", resnet18, kResNet},
    {"resnet50", resnet50, kResNet},
    {"vgg16", vgg16, kVgg},
    {"vgg16_bn", vgg16_bn, kNormalised},
    {"mobilenet_v2", mobilenet_v2, kNormalised},
    {"cnn", cnn, {}},
    {"lenet5", lenet5, {}},
    {"mlp", mlp, kHidden},
    {"transformer", transformer, kTransformer},
    {"linear", one_layer, {}, "mean_squared_error"},
    {"logistic", one_layer, {}},
    {"svm", one_layer, {}, "multiclass_hinge"},
};

const Entry& find(std::string_view name) {
  for (const auto& entry : kZoo) {
    if (entry.name == name) return entry;
  }
  const auto names = zoo_names();
  auto error = Error("unknown model", ErrorKind::kUsage)
                   .expected(fmt::format("one of {}", fmt::join(names, ", ")))
                   .got(fmt::format("'{}'", name));
  const auto near = suggestion(name, names);
  if (!near.empty()) throw std::move(error).hint(near);
  throw error;
}

}  // namespace

std::vector<std::string_view> zoo_names() {
  std::vector<std::string_view> names;
  for (const auto& entry : kZoo) names.push_back(entry.name);
  return names;
}

ModelSpec zoo_model(std::string_view name, const Shape& input, int classes, const SettingList& settings) {
  const auto& entry = find(name);
  const LayerSpec given{std::string(name), "", settings};
  auto made = entry.make(Settings(given, entry.settings), classes);
  ModelSpec spec{std::string(name), input.rank() == 0 ? made.input : input, classes, std::move(made.layers)};
  return spec;
}

ModelSpec zoo_benchmark(std::string_view name) {
  const auto& entry = find(name);
  SettingList settings;
  if (std::ranges::find(entry.settings, "stem") != entry.settings.end()) {
    settings.emplace_back("stem", std::string("cifar"));
  }
  return zoo_model(name, {}, 10, settings);
}

std::string_view zoo_objective(std::string_view name) { return find(name).objective; }

}  // namespace impart::nn

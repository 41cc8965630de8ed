// Networks for images, as torchvision builds them.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "nn/zoo/zoo_models.hpp"

namespace impart::nn {

namespace {

struct Convolution {
  std::int64_t filters = 0;
  std::int64_t kernel = 1;
  std::int64_t stride = 1;
  std::int64_t groups = 1;
  bool bias = false;
};

/// What the three families share: their settings, and convolutions with torchvision's padding and values.
class ImageModel {
 public:
  explicit ImageModel(const Settings& settings) {
    static constexpr std::array<std::string_view, 2> stems{"imagenet", "cifar"};
    cifar = settings.word_or("stem", stems[0], stems) == "cifar";
    width = settings.number_or("width", 1.0, 0.01, 64.0);
    if (settings.flag_or("sync", false)) norm_settings = {{"sync", true}};
    model.input = cifar ? Shape{3, 32, 32} : Shape{3, 224, 224};
  }

  /// Channels times width: the nearest multiple of 8, but not less than nine tenths (the rule of
  /// MobileNetV2's authors).
  [[nodiscard]] std::int64_t channels(std::int64_t count) const {
    return nearest(static_cast<double>(count) * width);
  }
  static std::int64_t nearest(double wanted) {
    const auto rounded =
        std::max<std::int64_t>(8, 8 * static_cast<std::int64_t>(std::floor((wanted + 4) / 8)));
    return static_cast<double>(rounded) < 0.9 * wanted ? rounded + 8 : rounded;
  }

  void convolution(const std::string& name, const Convolution& c, std::vector<std::string> from = {}) {
    SettingList settings{{"filters", c.filters}, {"kernel", c.kernel},
                         {"stride", c.stride},   {"padding", (c.kernel - 1) / 2},
                         {"bias", c.bias},       {"init", std::string("he_fan_out")}};
    if (c.groups > 1) settings.emplace_back("groups", c.groups);
    model.add("conv2d", name, std::move(settings), std::move(from));
  }

  std::string batch_norm(const std::string& name) { return model.add("batch_norm", name, norm_settings); }

  void dense(const std::string& name, std::int64_t units, const char* init) {
    model.add("dense", name, {{"units", units}, {"init", std::string(init)}});
  }

  bool cifar = false;
  double width = 1;
  SettingList norm_settings;
  ZooModel model;
};

/// He, Zhang, Ren, Sun: Deep residual learning for image recognition, 2016; table 1.
class ResNet {
 public:
  ResNet(const Settings& settings, std::array<int, 4> blocks, bool bottleneck)
      : net_(settings), blocks_(blocks), bottleneck_(bottleneck) {}

  ZooModel build(int classes) {
    stem();
    for (int stage = 0; stage < 4; ++stage) {
      const std::int64_t channels = net_.channels(64 << stage);
      for (int block = 0; block < blocks_.at(static_cast<std::size_t>(stage)); ++block) {
        const std::int64_t stride = stage > 0 && block == 0 ? 2 : 1;
        add_block(fmt::format("layer{}.{}.", stage + 1, block), channels, stride);
      }
    }
    net_.model.add("global_avg_pool2d", "avgpool");
    net_.model.add("flatten", "flatten");
    net_.dense("fc", classes, "uniform");
    return std::move(net_.model);
  }

 private:
  void stem() {
    channels_ = net_.channels(64);
    net_.convolution("conv1", {channels_, net_.cifar ? 3 : 7, net_.cifar ? 1 : 2});
    net_.batch_norm("bn1");
    last_ = net_.model.add("relu", "relu");
    if (net_.cifar) return;
    last_ = net_.model.add(
        "max_pool2d", "maxpool",
        {{"kernel", std::int64_t{3}}, {"stride", std::int64_t{2}}, {"padding", std::int64_t{1}}});
  }

  // The stride is in the 3x3 convolution of a bottleneck, as torchvision has it (ResNet v1.5).
  void add_block(const std::string& block, std::int64_t channels, std::int64_t stride) {
    const std::string input = last_;
    const std::int64_t outputs = bottleneck_ ? 4 * channels : channels;
    int number = 1;
    const auto step = [&](std::int64_t filters, std::int64_t kernel, std::int64_t by) {
      if (number > 1) net_.model.add("relu", fmt::format("{}relu{}", block, number - 1));
      net_.convolution(fmt::format("{}conv{}", block, number), {filters, kernel, by});
      last_ = net_.batch_norm(fmt::format("{}bn{}", block, number++));
    };
    if (bottleneck_) {
      step(channels, 1, 1);
      step(channels, 3, stride);
      step(outputs, 1, 1);
    } else {
      step(channels, 3, stride);
      step(outputs, 3, 1);
    }
    std::string shortcut = input;
    if (stride != 1 || channels_ != outputs) {
      net_.convolution(block + "downsample.0", {outputs, 1, stride}, {input});
      shortcut = net_.batch_norm(block + "downsample.1");
    }
    net_.model.add("add", block + "add", {}, {last_, shortcut});
    last_ = net_.model.add("relu", block + "relu");
    channels_ = outputs;
  }

  ImageModel net_;
  std::array<int, 4> blocks_;
  bool bottleneck_;
  std::int64_t channels_ = 0;  // of the last output
  std::string last_;
};

/// Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition, 2015; table 1, D.
ZooModel vgg(const Settings& settings, int classes, bool normalised) {
  constexpr int kPool = 0;
  constexpr std::array kPlan{64,    64,  kPool, 128, 128,   kPool, 256, 256, 256,
                             kPool, 512, 512,   512, kPool, 512,   512, 512, kPool};
  ImageModel net(settings);
  const double dropout = settings.number_or("dropout", 0.5, 0, 1);
  int number = 0;
  const auto feature = [&] { return fmt::format("features.{}", number++); };
  for (const int filters : kPlan) {
    if (filters == kPool) {
      net.model.add("max_pool2d", feature(), {{"kernel", std::int64_t{2}}});
      continue;
    }
    net.convolution(feature(), {.filters = net.channels(filters), .kernel = 3, .bias = true});
    if (normalised) net.batch_norm(feature());
    net.model.add("relu", feature());
  }
  if (net.cifar) {
    net.model.add("global_avg_pool2d", "avgpool");
  } else {
    net.model.add("adaptive_avg_pool2d", "avgpool", {{"size", std::int64_t{7}}});
  }
  net.model.add("flatten", "flatten");
  const std::int64_t hidden = net.channels(net.cifar ? 512 : 4096);
  net.dense("classifier.0", hidden, "normal");
  net.model.add("relu", "classifier.1");
  net.model.add("dropout", "classifier.2", {{"rate", dropout}});
  net.dense("classifier.3", hidden, "normal");
  net.model.add("relu", "classifier.4");
  net.model.add("dropout", "classifier.5", {{"rate", dropout}});
  net.dense("classifier.6", classes, "normal");
  return std::move(net.model);
}

/// Convolution, batch norm and relu6, under the names of torchvision's Conv2dNormActivation.
std::string norm_relu6(ImageModel& net, const std::string& name, const Convolution& convolution) {
  net.convolution(name + ".0", convolution);
  net.batch_norm(name + ".1");
  return net.model.add("relu6", name + ".2");
}

/// Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted residuals and linear bottlenecks, 2018;
/// section 3.3. Returns the name of its output.
std::string inverted_residual(ImageModel& net, int number, const std::string& input, std::int64_t inputs,
                              std::int64_t outputs, std::int64_t expansion, std::int64_t stride) {
  const std::string block = fmt::format("features.{}.conv.", number);
  int step = 0;
  const std::int64_t inner = inputs * expansion;
  if (expansion != 1) norm_relu6(net, fmt::format("{}{}", block, step++), {.filters = inner});
  norm_relu6(net, fmt::format("{}{}", block, step++), {inner, 3, stride, inner});
  net.convolution(fmt::format("{}{}", block, step++), {.filters = outputs});
  auto output = net.batch_norm(fmt::format("{}{}", block, step));
  if (stride != 1 || inputs != outputs) return output;
  return net.model.add("add", fmt::format("features.{}.add", number), {}, {output, input});
}

}  // namespace

ZooModel resnet18(const Settings& settings, int classes) {
  return ResNet(settings, {2, 2, 2, 2}, false).build(classes);
}

ZooModel resnet50(const Settings& settings, int classes) {
  return ResNet(settings, {3, 4, 6, 3}, true).build(classes);
}

ZooModel vgg16(const Settings& settings, int classes) { return vgg(settings, classes, false); }

ZooModel vgg16_bn(const Settings& settings, int classes) { return vgg(settings, classes, true); }

ZooModel mobilenet_v2(const Settings& settings, int classes) {
  struct Stage {
    std::int64_t expansion, channels;
    int blocks;
    std::int64_t stride;
  };
  constexpr std::array<Stage, 7> kStages{{{1, 16, 1, 1},
                                          {6, 24, 2, 2},
                                          {6, 32, 3, 2},
                                          {6, 64, 4, 2},
                                          {6, 96, 3, 1},
                                          {6, 160, 3, 2},
                                          {6, 320, 1, 1}}};
  ImageModel net(settings);
  std::int64_t channels = net.channels(32);
  auto last = norm_relu6(net, "features.0", {channels, 3, net.cifar ? 1 : 2});
  int number = 1;
  for (const auto& stage : kStages) {
    const std::int64_t outputs = net.channels(stage.channels);
    for (int block = 0; block < stage.blocks; ++block) {
      const bool shrinks = block == 0 && !(net.cifar && stage.channels == 24);
      last = inverted_residual(net, number++, last, channels, outputs, stage.expansion,
                               shrinks ? stage.stride : 1);
      channels = outputs;
    }
  }
  // A narrow network keeps all of its last channels.
  norm_relu6(net, fmt::format("features.{}", number),
             {.filters = ImageModel::nearest(1280 * std::max(1.0, net.width))});
  net.model.add("global_avg_pool2d", "avgpool");
  net.model.add("flatten", "flatten");
  net.model.add("dropout", "classifier.0", {{"rate", settings.number_or("dropout", 0.2, 0, 1)}});
  net.dense("classifier.1", classes, "normal");
  return std::move(net.model);
}

}  // namespace impart::nn

// resnet18, resnet50. He, Zhang, Ren, Sun: Deep residual learning for image recognition, 2016; table 1.
#include <fmt/format.h>

#include <array>

#include "nn/zoo/image_model.hpp"

namespace impart::nn {

namespace {

class ResNet {
 public:
  ResNet(Settings& settings, std::array<int, 4> blocks, bool bottleneck)
      : net_(settings, true), blocks_(blocks), bottleneck_(bottleneck) {}

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
    last_ = net_.model.add("max_pool2d", "maxpool", {{"kernel", 3}, {"stride", 2}, {"padding", 1}});
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

}  // namespace

ZooModel resnet18(Settings& settings, int classes) {
  return ResNet(settings, {2, 2, 2, 2}, false).build(classes);
}

ZooModel resnet50(Settings& settings, int classes) {
  return ResNet(settings, {3, 4, 6, 3}, true).build(classes);
}

}  // namespace impart::nn

// mobilenet_v2. Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted residuals and linear bottlenecks,
// 2018.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "nn/zoo/image_model.hpp"

namespace impart::nn {

namespace {

/// Convolution, batch norm and relu6, under the names of torchvision's Conv2dNormActivation.
std::string norm_relu6(ImageModel& net, const std::string& name, const Convolution& convolution) {
  net.convolution(name + ".0", convolution);
  net.batch_norm(name + ".1");
  return net.model.add("relu6", name + ".2");
}

/// Section 3.3. Returns the name of its output.
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

ZooModel mobilenet_v2(Settings& settings, int classes) {
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
  ImageModel net(settings, true);
  const double dropout = read_dropout(settings, 0.2);
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
  net.model.add("dropout", "classifier.0", {{"rate", dropout}});
  net.dense("classifier.1", classes, "normal");
  return std::move(net.model);
}

}  // namespace impart::nn

// vgg16, vgg16_bn. Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition,
// 2015; table 1, D.
#include <fmt/format.h>

#include <array>

#include "nn/zoo/image_model.hpp"

namespace impart::nn {

namespace {

ZooModel vgg(Settings& settings, int classes, bool normalised) {
  constexpr int kPool = 0;
  constexpr std::array kPlan{64,    64,  kPool, 128, 128,   kPool, 256, 256, 256,
                             kPool, 512, 512,   512, kPool, 512,   512, 512, kPool};
  ImageModel net(settings, normalised);
  const double dropout = read_dropout(settings, 0.5);
  int number = 0;
  const auto feature = [&] { return fmt::format("features.{}", number++); };
  for (const int filters : kPlan) {
    if (filters == kPool) {
      net.model.add("max_pool2d", feature(), {{"kernel", 2}});
      continue;
    }
    net.convolution(feature(), {.filters = net.channels(filters), .kernel = 3, .bias = true});
    if (normalised) net.batch_norm(feature());
    net.model.add("relu", feature());
  }
  if (net.cifar) {
    net.model.add("global_avg_pool2d", "avgpool");
  } else {
    net.model.add("adaptive_avg_pool2d", "avgpool", {{"size", 7}});
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

}  // namespace

ZooModel vgg16(Settings& settings, int classes) { return vgg(settings, classes, false); }

ZooModel vgg16_bn(Settings& settings, int classes) { return vgg(settings, classes, true); }

}  // namespace impart::nn

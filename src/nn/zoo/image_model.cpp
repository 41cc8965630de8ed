#include "nn/zoo/image_model.hpp"

#include <algorithm>
#include <cmath>

namespace impart::nn {

ImageModel::ImageModel(Settings& settings, bool has_batch_norms) {
  settings.choose("stem", cifar, {{"imagenet", false}, {"cifar", true}},
                  "made for images of 3x224x224, or of 3x32x32: less stride and pooling at the front");
  settings.read("width", width, below(0.01, 64), "factor of all channels, to the nearest multiple of 8");
  bool sync = false;
  if (has_batch_norms)
    settings.read("sync", sync, "batch norms with statistics of the whole batch rather than of a shard");
  if (sync) norm_settings = {{"sync", true}};
  model.input = cifar ? Shape{3, 32, 32} : Shape{3, 224, 224};
}

std::int64_t ImageModel::nearest(double wanted) {
  const auto rounded = std::max<std::int64_t>(8, 8 * static_cast<std::int64_t>(std::floor((wanted + 4) / 8)));
  return static_cast<double>(rounded) < 0.9 * wanted ? rounded + 8 : rounded;
}

void ImageModel::convolution(const std::string& name, const Convolution& c, std::vector<std::string> from) {
  SettingTable settings{{"filters", c.filters},          {"kernel", c.kernel}, {"stride", c.stride},
                        {"padding", (c.kernel - 1) / 2}, {"bias", c.bias},     {"init", "he_fan_out"}};
  if (c.groups > 1) settings.emplace_back("groups", c.groups);
  model.add("conv2d", name, std::move(settings), std::move(from));
}

double read_dropout(Settings& settings, double fallback) {
  double rate = fallback;
  settings.read("dropout", rate, below(0, 1), "share of the classifier's features that training leaves out");
  return rate;
}

}  // namespace impart::nn

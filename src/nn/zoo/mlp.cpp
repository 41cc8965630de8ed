// mlp: dense layers with rectifiers between.
#include <fmt/format.h>

#include "nn/zoo/models.hpp"

namespace impart::nn {

ZooModel mlp(Settings& settings, int classes) {
  std::vector<std::int64_t> hidden{1200, 1200};
  settings.read("hidden", hidden, between(1, static_cast<double>(kMaxExtent)), "units of the hidden layers");
  ZooModel model{.input = {1, 28, 28}};
  model.add("flatten", "flatten");
  int number = 0;
  for (const auto units : hidden) {
    ++number;
    model.add("dense", fmt::format("fc{}", number), {{"units", units}});
    model.add("relu", fmt::format("relu{}", number));
  }
  model.add("dense", fmt::format("fc{}", number + 1), {{"units", classes}});
  return model;
}

}  // namespace impart::nn

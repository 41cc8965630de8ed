// cnn: a small network for digits, 93,322 parameters.
#include "nn/zoo/models.hpp"

namespace impart::nn {

ZooModel cnn(Settings& /*settings*/, int classes) {
  const auto window = [](int filters) {
    return SettingTable{{"filters", filters}, {"kernel", 3}, {"padding", 0}};
  };
  ZooModel model{.input = {1, 28, 28}};
  model.add("conv2d", "conv1", window(32));
  model.add("relu", "relu1");
  model.add("max_pool2d", "pool1", {{"kernel", 2}});
  model.add("conv2d", "conv2", window(64));
  model.add("relu", "relu2");
  model.add("max_pool2d", "pool2", {{"kernel", 2}});
  model.add("conv2d", "conv3", window(64));
  model.add("relu", "relu3");
  model.add("flatten", "flatten1");
  model.add("dense", "dense1", {{"units", 64}});
  model.add("relu", "relu4");
  model.add("dense", "dense2", {{"units", classes}});
  return model;
}

}  // namespace impart::nn

// lenet5 (LeCun, Bottou, Bengio, Haffner 1998, section II.B), with every map connected.
#include "nn/zoo/models.hpp"

namespace impart::nn {

ZooModel lenet5(Settings& /*settings*/, int classes) {
  // Glorot's values suit tanh, which He's would saturate.
  const auto window = [](int filters, int padding) {
    return SettingTable{{"filters", filters}, {"kernel", 5}, {"padding", padding}, {"init", "glorot"}};
  };
  const auto units = [](int count) { return SettingTable{{"units", count}, {"init", "glorot"}}; };
  ZooModel model{.input = {1, 28, 28}};
  model.add("conv2d", "conv1", window(6, 2));
  model.add("tanh", "tanh1");
  model.add("avg_pool2d", "pool1", {{"kernel", 2}});
  model.add("conv2d", "conv2", window(16, 0));
  model.add("tanh", "tanh2");
  model.add("avg_pool2d", "pool2", {{"kernel", 2}});
  model.add("flatten", "flatten");
  model.add("dense", "fc1", units(120));
  model.add("tanh", "tanh3");
  model.add("dense", "fc2", units(84));
  model.add("tanh", "tanh4");
  model.add("dense", "fc3", units(classes));
  return model;
}

}  // namespace impart::nn

#include "impart/share/capabilities.hpp"

#include <string>

namespace impart::share {

using enum train::Feature;

train::Capabilities distillation_capabilities() {
  return {
      .key = "teachers",
      .uses = {{kTeachers, {"teachers"}}},
      .refuses = {
          {kMixing, {"teachers are asked once about each sample, not about mixtures: no mixup, no cutmix"}}}};
}

train::Capabilities cyclic_capabilities() {
  train::Capabilities result{.key = "order"};
  const auto refuse = [&](train::Feature feature, const std::string& why) {
    result.refuses[feature] = {why + ", and order = \"cyclic\" visits one part after another"};
  };
  refuse(kLocalSteps, "averages shards that train at the same time");
  refuse(kSolver, "a solver needs all the data at once");
  refuse(kAverage, "is of weights along one training");
  for (const auto feature : {kKeepBest, kEarlyStopping, kPlateau})
    refuse(feature, "compares the epochs of one training");
  refuse(kTensorAxis, "ranks that share tensors work at the same time");
  return result;
}

}  // namespace impart::share

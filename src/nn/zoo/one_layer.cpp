// linear, logistic and svm: one dense layer. What sets them apart is the objective.
#include "nn/zoo/models.hpp"

namespace impart::nn {

namespace {

ZooModel one_layer(int classes, std::string_view objective) {
  ZooModel model{.input = {1, 28, 28}, .objective = objective};
  model.add("flatten", "flatten");
  model.add("dense", "fc", {{"units", classes}, {"init", "uniform"}});
  return model;
}

}  // namespace

ZooModel linear(Settings& /*settings*/, int classes) { return one_layer(classes, "mean_squared_error"); }
ZooModel logistic(Settings& /*settings*/, int classes) { return one_layer(classes, "cross_entropy"); }
ZooModel svm(Settings& /*settings*/, int classes) { return one_layer(classes, "multiclass_hinge"); }

}  // namespace impart::nn

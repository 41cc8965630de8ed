// The factories of the zoo's models: each reads its settings, and makes the model for `classes`.
#pragma once

#include "impart/nn/zoo.hpp"

namespace impart::nn {

using MakeModel = ZooModel(Settings& settings, int classes);
MakeModel cnn;
MakeModel lenet5;
MakeModel linear;
MakeModel logistic;
MakeModel mlp;
MakeModel mobilenet_v2;
MakeModel resnet18;
MakeModel resnet50;
MakeModel svm;
MakeModel transformer;
MakeModel vgg16;
MakeModel vgg16_bn;

}  // namespace impart::nn

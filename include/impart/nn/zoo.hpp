// Zoo: models known by name, so that a deck or a benchmark can ask for one without listing its layers.
#pragma once

#include <string_view>
#include <vector>

#include "impart/nn/spec.hpp"

namespace impart::nn {

/// The names that `zoo_model` knows.
std::vector<std::string_view> zoo_names();

/// The model of that name, with its layers named. Tensors of "resnet18", "resnet50" (He et al. 2016),
/// "vgg16", "vgg16_bn" (Simonyan and Zisserman 2015) and "mobilenet_v2" (Sandler et al. 2018) have
/// torchvision's names, shapes, order and initial distributions; num_batches_tracked is left out. Their
/// settings:
/// - stem: "imagenet" (default), for 3x224x224, or "cifar", for 3x32x32: a first convolution of 3x3 with
///   stride 1 and no pooling (resnet), a classifier of 512-512-512-classes (vgg), stride 1 in the first
///   convolution and in the 24-channel stage (mobilenet);
/// - width: all channels times this number, to the nearest multiple of 8; default 1;
/// - dropout: of the classifier of vgg (default 0.5) and mobilenet (0.2);
/// - sync: of all batch norms; default false.
///
/// For 1x28x28:
/// - "cnn": three 3x3 convolutions without padding (32, 64, 64 filters) with max pooling between, dense 64,
///   dense `classes`; 93,322 parameters;
/// - "lenet5": LeNet-5 (LeCun et al. 1998) with every map connected: tanh, average pooling, 120-84-classes;
/// - "mlp": dense layers with rectifiers between; setting `hidden`, default [1200, 1200];
/// - "linear", "logistic", "svm": one dense layer. What sets them apart is the loss, see zoo_objective.
///
/// For sequences of `context` words, each an index below `classes`:
/// - "transformer": a model of the word that follows each word, of blocks of causal attention and two dense
///   layers, with norms in front, whose parameters have the names of PyTorch's TransformerEncoder; settings
///   layers (4), width (128), heads (4), ff (4 width), context (64), dropout (0).
///
/// `input` may be empty: then the model has the one that is said here. Throws Error (usage) for an unknown
/// name or setting, with the nearest known one, and for values out of range; shapes are check_model's matter.
ModelSpec zoo_model(std::string_view name, const Shape& input, int classes, const SettingList& settings = {});

/// The model that a benchmark of that name measures: 10 classes, the cifar stem where there are stems.
ModelSpec zoo_benchmark(std::string_view name);

/// The objective (as make_objective knows it) that makes a model of that name what its name says:
/// "mean_squared_error" for "linear", "multiclass_hinge" for "svm", "cross_entropy" for all others.
std::string_view zoo_objective(std::string_view name);

}  // namespace impart::nn

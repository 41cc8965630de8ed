// The kinds of layers. A new one is a file in this folder, and a line here.
#include "nn/layers/layers.hpp"

namespace impart::nn {

namespace {

using Layers = Registry<std::unique_ptr<Layer>, const LayerContext&>;

constexpr Layers::Entry kLayers[] = {
    {"conv2d", "cross-correlation of images with square kernels", make_conv2d},
    {"dense", "a linear map of each row of features", make_dense},
    {"max_pool2d", "the largest value in each window that slides over an image", make_max_pool2d},
    {"avg_pool2d", "the mean of each window that slides over an image", make_avg_pool2d},
    {"batch_norm", "normalises each channel, or feature, over a batch", make_batch_norm},
    {"layer_norm", "normalises the features of each row", make_layer_norm},
    {"group_norm", "normalises groups of channels of each image", make_group_norm},
    {"adaptive_avg_pool2d", "means of windows, to an image of a given size", make_adaptive_avg_pool2d},
    {"adaptive_max_pool2d", "largest values of windows, to an image of a given size",
     make_adaptive_max_pool2d},
    {"global_avg_pool2d", "the mean of each channel of an image", make_global_avg_pool2d},
    {"relu", "max(x, 0)", make_relu},
    {"relu6", "min(max(x, 0), 6)", make_relu6},
    {"leaky_relu", "x, or a small part of it where it is negative", make_leaky_relu},
    {"gelu", "x times the probability that a standard normal variable is below x", make_gelu},
    {"sigmoid", "1 / (1 + exp(-x))", make_sigmoid},
    {"tanh", "the hyperbolic tangent", make_tanh},
    {"softmax", "probabilities from the logits of each row", make_softmax},
    {"add", "the sum of two or more inputs", make_add},
    {"concat", "the channels, or features, of two or more inputs side by side", make_concat},
    {"embedding", "a learned row for each index of a vocabulary", make_embedding},
    {"positional_encoding", "adds to each step of a sequence what says its position",
     make_positional_encoding},
    {"multi_head_attention", "scaled dot-product attention over the steps of sequences",
     make_multi_head_attention},
    {"dropout", "leaves out values at random while training", make_dropout},
    {"flatten", "an image, or a sequence, as a list of features", make_flatten},
};

}  // namespace

const Layers& layers() {
  static constexpr Layers registry("layer", kLayers);
  return registry;
}

}  // namespace impart::nn

// The candidate "onednn": oneDNN's convolutions on channels-last images, built once and then only executed.
#pragma once

#include <memory>

#include "nn/kernels/convolution.hpp"

namespace impart::nn {

/// oneDNN promises no order of summation, so each shard is computed by itself, with primitives built for one.
bool onednn_serves(const ConvGeometry& g, ConvDirection direction);
std::unique_ptr<ConvForward> make_onednn_forward(const ConvGeometry& g, const ConvOptions& options,
                                                 Scratch& scratch);
std::unique_ptr<ConvBackwardData> make_onednn_backward_data(const ConvGeometry& g, const ConvOptions& options,
                                                            Scratch& scratch);
std::unique_ptr<ConvBackwardWeights> make_onednn_backward_weights(const ConvGeometry& g,
                                                                  const ConvOptions& options,
                                                                  Scratch& scratch);

}  // namespace impart::nn

// Depthwise convolutions, one filter for each channel: kernels that vectorise over channels.
#pragma once

#include <cstdint>
#include <memory>

#include "nn/kernels/convolution.hpp"

namespace impart::nn {

/// Side of the largest window that the kernels below know.
inline constexpr std::int64_t kMaxDepthwiseKernel = 7;

/// One depthwise convolution of a batch. `geometry` has as many filters as channels.
struct DepthwiseConv {
  ConvGeometry geometry;
  const float* weight = nullptr;  ///< (K * K, C)
  const float* zeros = nullptr;   ///< (C), to be read in place of the padding
  const float* bias = nullptr;    ///< (C), or null
  bool relu = false;
  bool add = false;  ///< to what the output holds
};

bool depthwise_serves(const ConvGeometry& g, ConvDirection direction);
std::unique_ptr<ConvForward> make_depthwise_forward(const ConvGeometry& g, const ConvOptions& options,
                                                    Scratch& scratch);
std::unique_ptr<ConvBackwardData> make_depthwise_data(const ConvGeometry& g, const ConvOptions& options,
                                                      Scratch& scratch);
std::unique_ptr<ConvBackwardWeights> make_depthwise_weights(const ConvGeometry& g, const ConvOptions& options,
                                                            Scratch& scratch);

}  // namespace impart::nn

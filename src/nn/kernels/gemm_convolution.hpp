// The candidate "gemm": convolutions as products of matrices whose rows are gathered patches (implicit GEMM;
// the tiles of patches never leave the cache). Serves every shape. And "amx", the same on AMX's tiles.
#pragma once

#include <memory>

#include "nn/kernels/convolution.hpp"

namespace impart::nn {

bool gemm_serves(const ConvGeometry& g, ConvDirection direction);
std::unique_ptr<ConvForward> make_gemm_forward(const ConvGeometry& g, const ConvOptions& options,
                                               Scratch& scratch);
std::unique_ptr<ConvBackwardData> make_gemm_backward_data(const ConvGeometry& g, const ConvOptions& options,
                                                          Scratch& scratch);
std::unique_ptr<ConvBackwardWeights> make_gemm_backward_weights(const ConvGeometry& g,
                                                                const ConvOptions& options, Scratch& scratch);

bool amx_serves(const ConvGeometry& g, ConvDirection direction);
std::unique_ptr<ConvForward> make_amx_forward(const ConvGeometry& g, const ConvOptions& options,
                                              Scratch& scratch);
std::unique_ptr<ConvBackwardData> make_amx_backward_data(const ConvGeometry& g, const ConvOptions& options,
                                                         Scratch& scratch);
std::unique_ptr<ConvBackwardWeights> make_amx_backward_weights(const ConvGeometry& g,
                                                               const ConvOptions& options, Scratch& scratch);

}  // namespace impart::nn

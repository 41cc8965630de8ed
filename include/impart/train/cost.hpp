// What training costs, before it begins.
#pragma once

#include <cstdint>

#include "impart/nn/spec.hpp"

namespace impart::train {

/// Seconds of this core for the forward and the backward pass of one of `batch` samples, measured with zeros:
/// the faster of two passes. Local. Throws as nn::Network does.
double seconds_per_sample(const nn::ModelSpec& spec, std::int64_t batch);

}  // namespace impart::train

// The kinds of samplers, one a file; samplers.cpp has the table.
#pragma once

#include "impart/data/sampler.hpp"

namespace impart::data {

SamplerPtr make_shuffled(Settings& settings);
SamplerPtr make_sequential(Settings& settings);

}  // namespace impart::data

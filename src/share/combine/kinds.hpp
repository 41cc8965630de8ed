// The factories of the table in combiners.cpp.
#pragma once

#include <memory>

#include "impart/share/combine/combiner.hpp"

namespace impart::share {

std::unique_ptr<Combiner> make_linear(Settings& settings);
std::unique_ptr<Combiner> make_ties(Settings& settings);

}  // namespace impart::share

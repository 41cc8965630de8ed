// The factories of the table in algorithms.cpp.
#pragma once

#include <memory>

#include "impart/share/federate/algorithm.hpp"

namespace impart::share {

std::unique_ptr<FederatedAlgorithm> make_fedavg(Settings& settings);
std::unique_ptr<FederatedAlgorithm> make_fedprox(Settings& settings);
std::unique_ptr<FederatedAlgorithm> make_scaffold(Settings& settings);

}  // namespace impart::share

// The kinds of objectives; see objective.hpp. Each reads its own settings.
#pragma once

#include <memory>

#include "impart/core/settings.hpp"
#include "impart/nn/objective.hpp"

namespace impart::nn {

std::unique_ptr<Objective> make_cross_entropy(impart::Settings& settings);
std::unique_ptr<Objective> make_binary_cross_entropy(impart::Settings& settings);
std::unique_ptr<Objective> make_mean_squared_error(impart::Settings& settings);
std::unique_ptr<Objective> make_l1(impart::Settings& settings);
std::unique_ptr<Objective> make_huber(impart::Settings& settings);
std::unique_ptr<Objective> make_hinge(impart::Settings& settings);
std::unique_ptr<Objective> make_multiclass_hinge(impart::Settings& settings);
std::unique_ptr<Objective> make_kl(impart::Settings& settings);

}  // namespace impart::nn

// The old way to combine models in memory, by the names "average" and "weighted"; see combine/combiner.hpp.
#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "impart/core/state_dict.hpp"

namespace impart::share {

using CombineFunction =
    std::function<StateDict(std::span<const StateDict* const> models, std::span<const double> weights)>;

/// The `linear` combiner, without or with the weights. Throws Error (usage) that lists the known names.
CombineFunction find_combiner(std::string_view name);
std::vector<std::string_view> combiner_names();

}  // namespace impart::share

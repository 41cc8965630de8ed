// The kinds of adaptation losses; see adapt_loss.hpp. Each reads its own settings.
#pragma once

#include <memory>

#include "impart/core/settings.hpp"
#include "impart/share/adapt/adapt_loss.hpp"

namespace impart::share {

std::unique_ptr<AdaptLoss> make_coral(Settings& settings);

}  // namespace impart::share

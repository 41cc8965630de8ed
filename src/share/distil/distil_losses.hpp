// The kinds of distillation losses; see distil_loss.hpp. Each reads its own settings.
#pragma once

#include <memory>

#include "impart/core/settings.hpp"
#include "impart/share/distil/distil_loss.hpp"

namespace impart::share {

std::unique_ptr<DistilLoss> make_hinton(Settings& settings);
std::unique_ptr<DistilLoss> make_hint(Settings& settings);

}  // namespace impart::share

// The factories behind averages().
#pragma once

#include "impart/core/settings.hpp"
#include "impart/train/average.hpp"

namespace impart::train {

AveragePtr make_ema(Settings& settings);
AveragePtr make_swa(Settings& settings);

}  // namespace impart::train

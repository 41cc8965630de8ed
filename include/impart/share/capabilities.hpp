// What the methods of `share` that contain a training use and rule out in it (train::conflicts).
#pragma once

#include "impart/train/capabilities.hpp"

namespace impart::share {

/// Teachers beside the labels.
train::Capabilities distillation_capabilities();
/// One part of the data after another (cyclic_transfer).
train::Capabilities cyclic_capabilities();

}  // namespace impart::share

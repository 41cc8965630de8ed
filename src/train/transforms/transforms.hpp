// The factories behind gradient_transforms().
#pragma once

#include "impart/core/settings.hpp"
#include "impart/train/transform.hpp"

namespace impart::train {

GradientTransformPtr read_l2(Settings& settings);
GradientTransformPtr read_proximal(Settings& settings);
GradientTransformPtr read_clip_norm(Settings& settings);
GradientTransformPtr read_clip_value(Settings& settings);

}  // namespace impart::train

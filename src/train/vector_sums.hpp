// Sums over float arrays in double precision and in one fixed order.
#pragma once

#include <cstddef>
#include <span>

namespace impart::train {

/// a . b. REQUIRES: equal sizes.
double dot(std::span<const float> a, std::span<const float> b);

/// ||a - b||^2. REQUIRES: equal sizes.
double square_distance(std::span<const float> a, std::span<const float> b);

/// a . a.
inline double square_sum(std::span<const float> a) { return dot(a, a); }

}  // namespace impart::train

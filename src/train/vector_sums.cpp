#include "train/vector_sums.hpp"

#include <array>

namespace impart::train {

namespace {

// The sum of `term` of each pair of values, in double precision.
template <class Term>
double sum_of(std::span<const float> a, std::span<const float> b, Term term) {
  // Sixteen partial sums: enough registers in flight, and an order that no compiler may change.
  constexpr std::size_t kLanes = 16;
  std::array<double, kLanes> sums{};
  const std::size_t whole = a.size() / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t k = 0; k < kLanes; ++k)
      sums[k] += term(static_cast<double>(a[i + k]), static_cast<double>(b[i + k]));
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  for (std::size_t i = whole; i < a.size(); ++i)
    total += term(static_cast<double>(a[i]), static_cast<double>(b[i]));
  return total;
}

}  // namespace

double dot(std::span<const float> a, std::span<const float> b) {
  return sum_of(a, b, [](double x, double y) { return x * y; });
}

double square_distance(std::span<const float> a, std::span<const float> b) {
  return sum_of(a, b, [](double x, double y) { return (x - y) * (x - y); });
}

}  // namespace impart::train

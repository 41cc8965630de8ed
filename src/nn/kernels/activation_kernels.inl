// Exponentials and what is made of them; part of kernels.inl. A value's bits do not depend on its place: what
// is left over at the end of an array goes through the same instructions.
namespace impart::nn {
namespace {

template <class Map>
void map_values(std::int64_t n, const float* x, float* y, Map map) {
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) map(Vec::load(x + i), i, Vec::kWidth).store(y + i);
  if (i < n) map(Vec::load_first(x + i, n - i), i, n - i).store_first(y + i, n - i);
}

/// ((c0 x + c1) x + c2) ...
template <int kCount>
Vec polynomial(Vec x, const float (&c)[kCount]) {
  Vec sum = Vec::set(c[0]);
  for (int k = 1; k < kCount; ++k) sum = Vec::fma(sum, x, Vec::set(c[k]));
  return sum;
}

/// e^x, to 2 units in the last place, for x between -87.3 and 88.3; beyond that its value at the nearer end.
/// With x = n log 2 + r the rest is a polynomial in r (Moshier's Cephes library, expf). NaN stays NaN.
Vec exp_of(Vec x) {
  constexpr float kCoefficients[] = {1.9875691500e-4F, 1.3981999507e-3F, 8.3334519073e-3F,
                                     4.1665795894e-2F, 1.6666665459e-1F, 5.0000001201e-1F};
  const Vec high = Vec::set(88.3F);
  const Vec low = Vec::set(-87.3F);
  x = Vec::select(Vec::greater(x, high), high, x);
  x = Vec::select(Vec::greater(low, x), low, x);
  const Vec shift = Vec::set(kIntegerShift);
  const Vec shifted = Vec::fma(x, Vec::set(1.44269504F), shift);
  const Vec n = shifted - shift;
  Vec r = Vec::fma(n, Vec::set(-0.693359375F), x);  // log 2 in two parts, the first one exact
  r = Vec::fma(n, Vec::set(2.12194440e-4F), r);
  const Vec rest = Vec::fma(polynomial(r, kCoefficients), r * r, r) + Vec::set(1.0F);
  return rest * Vec::power_of_two(shifted);
}

void sigmoid_values(std::int64_t n, const float* x, float* y) {
  const Vec one = Vec::set(1.0F);
  map_values(n, x, y,
             [&](Vec v, std::int64_t, std::int64_t) { return one / (one + exp_of(Vec::set(0.0F) - v)); });
}

// Near zero a polynomial, as the difference from 1 would lose digits (Cephes, tanhf).
void tanh_values(std::int64_t n, const float* x, float* y) {
  constexpr float kCoefficients[] = {-5.70498872745e-3F, 2.06390887954e-2F, -5.37397155531e-2F,
                                     1.33314422036e-1F, -3.33332819422e-1F};
  const Vec zero = Vec::set(0.0F);
  const Vec one = Vec::set(1.0F);
  const Vec two = Vec::set(2.0F);
  map_values(n, x, y, [&](Vec v, std::int64_t, std::int64_t) {
    const auto negative = Vec::greater(zero, v);
    const Vec size = Vec::select(negative, zero - v, v);
    const Vec large = one - two / (exp_of(two * size) + one);
    const Vec square = v * v;
    const Vec small = Vec::fma(v * square, polynomial(square, kCoefficients), v);
    return Vec::select(Vec::greater(size, Vec::set(0.625F)), Vec::select(negative, zero - large, large),
                       small);
  });
}

/// The distribution function of the standard normal, to 1e-7, and its density (Abramowitz and Stegun 1964,
/// formula 7.1.26).
struct Normal {
  Vec below;
  Vec density;
};

Normal normal_of(Vec x) {
  constexpr float kCoefficients[] = {1.061405429F, -1.453152027F, 1.421413741F, -0.284496736F, 0.254829592F};
  const Vec zero = Vec::set(0.0F);
  const Vec one = Vec::set(1.0F);
  const auto positive = Vec::greater(x, zero);
  const Vec size = Vec::select(positive, x, zero - x);
  const Vec bell = exp_of(Vec::set(-0.5F) * x * x);
  const Vec t = one / Vec::fma(size, Vec::set(0.3275911F * 0.70710678F), one);
  const Vec tail = Vec::set(0.5F) * polynomial(t, kCoefficients) * t * bell;
  return {Vec::select(positive, one - tail, tail), Vec::set(0.39894228F) * bell};
}

void gelu_values(std::int64_t n, const float* x, float* y) {
  map_values(n, x, y, [](Vec v, std::int64_t, std::int64_t) { return v * normal_of(v).below; });
}

void gelu_gradients(std::int64_t n, const float* x, const float* grad_y, float* grad_x) {
  map_values(n, x, grad_x, [&](Vec v, std::int64_t i, std::int64_t count) {
    const Normal normal = normal_of(v);
    return Vec::load_first(grad_y + i, count) * Vec::fma(v, normal.density, normal.below);
  });
}

float sum_of(Vec v) {
  float lanes[Vec::kWidth];
  v.store(lanes);
  for (std::int64_t half = Vec::kWidth / 2; half > 0; half /= 2) {
    for (std::int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

float largest_of(std::int64_t n, const float* x) {
  float best = x[0];
  std::int64_t i = 0;
  if (n >= Vec::kWidth) {
    Vec bests = Vec::load(x);
    for (i = Vec::kWidth; i + Vec::kWidth <= n; i += Vec::kWidth) {
      const Vec v = Vec::load(x + i);
      bests = Vec::select(Vec::greater(v, bests), v, bests);
    }
    float lanes[Vec::kWidth];
    bests.store(lanes);
    for (const float lane : lanes) best = lane > best ? lane : best;
  }
  for (; i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

void softmax_row(std::int64_t n, float scale, const float* x, float* y) {
  const Vec largest = Vec::set(largest_of(n, x));
  const Vec factor = Vec::set(scale);
  Vec sums = Vec::set(0.0F);
  for (std::int64_t i = 0; i < n; i += Vec::kWidth) {
    exp_of(factor * (Vec::load_first(x + i, n - i) - largest)).store_first(y + i, n - i);
    sums = sums + Vec::load_first(y + i, n - i);
  }
  const Vec share = Vec::set(1.0F / sum_of(sums));
  map_values(n, y, y, [&](Vec v, std::int64_t, std::int64_t) { return v * share; });
}

void softmax_row_gradients(std::int64_t n, float scale, const float* y, const float* grad_y, float* grad_x) {
  Vec sums = Vec::set(0.0F);
  for (std::int64_t i = 0; i < n; i += Vec::kWidth) {
    sums = Vec::fma(Vec::load_first(y + i, n - i), Vec::load_first(grad_y + i, n - i), sums);
  }
  const Vec mean = Vec::set(sum_of(sums));
  const Vec factor = Vec::set(scale);
  map_values(n, y, grad_x, [&](Vec v, std::int64_t i, std::int64_t count) {
    return factor * v * (Vec::load_first(grad_y + i, count) - mean);
  });
}

}  // namespace
}  // namespace impart::nn

#include "impart/core/rng.hpp"

#include <immintrin.h>

#include <cmath>
#include <numeric>

namespace impart {

namespace {

// Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014.
std::uint64_t splitmix64(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

std::uint32_t low(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
std::uint32_t high(std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); }

// Philox4x32's constants; the keys step by the golden ratio and sqrt(3) - 1.
constexpr std::uint32_t kMultiplier0 = 0xD2511F53;
constexpr std::uint32_t kMultiplier1 = 0xCD9E8D57;
constexpr std::uint32_t kWeyl0 = 0x9E3779B9;
constexpr std::uint32_t kWeyl1 = 0xBB67AE85;

template <std::size_t N>
double polynomial(const std::array<double, N>& c, double x) {
  double sum = c[N - 1];
  for (std::size_t i = N - 1; i-- > 0;) sum = sum * x + c[i];
  return sum;
}

}  // namespace

// Wichura: "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37
// (1988), routine PPND16; relative accuracy about 1e-16.
double inverse_normal_cdf(double p) {
  static constexpr std::array<double, 8> a{
      3.3871328727963666080e0,  1.3314166789178437745e+2, 1.9715909503065514427e+3, 1.3731693765509461125e+4,
      4.5921953931549871457e+4, 6.7265770927008700853e+4, 3.3430575583588128105e+4, 2.5090809287301226727e+3};
  static constexpr std::array<double, 8> b{1.0,
                                           4.2313330701600911252e+1,
                                           6.8718700749205790830e+2,
                                           5.3941960214247511077e+3,
                                           2.1213794301586595867e+4,
                                           3.9307895800092710610e+4,
                                           2.8729085735721942674e+4,
                                           5.2264952788528545610e+3};
  static constexpr std::array<double, 8> c{1.42343711074968357734e0,  4.63033784615654529590e0,
                                           5.76949722146069140550e0,  3.64784832476320460504e0,
                                           1.27045825245236838258e0,  2.41780725177450611770e-1,
                                           2.27238449892691845833e-2, 7.74545014278341407640e-4};
  static constexpr std::array<double, 8> d{1.0,
                                           2.05319162663775882187e0,
                                           1.67638483018380384940e0,
                                           6.89767334985100004550e-1,
                                           1.48103976427480074590e-1,
                                           1.51986665636164571966e-2,
                                           5.47593808499534494600e-4,
                                           1.05075007164441684324e-9};
  static constexpr std::array<double, 8> e{6.65790464350110377720e0,  5.46378491116411436990e0,
                                           1.78482653991729133580e0,  2.96560571828504891230e-1,
                                           2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                           2.71155556874348757815e-5, 2.01033439929228813265e-7};
  static constexpr std::array<double, 8> f{1.0,
                                           5.99832206555887937690e-1,
                                           1.36929880922735805310e-1,
                                           1.48753612908506148525e-2,
                                           7.86869131145613259100e-4,
                                           1.84631831751005468180e-5,
                                           1.42151175831644588870e-7,
                                           2.04426310338993978564e-15};

  const double q = p - 0.5;
  if (std::fabs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q * polynomial(a, r) / polynomial(b, r);
  }
  double r = std::sqrt(-std::log(q < 0 ? p : 1.0 - p));
  double x = 0;
  if (r <= 5.0) {
    r -= 1.6;
    x = polynomial(c, r) / polynomial(d, r);
  } else {
    r -= 5.0;
    x = polynomial(e, r) / polynomial(f, r);
  }
  return q < 0 ? -x : x;
}

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{kMultiplier0} * counter[0];
    const std::uint64_t p1 = std::uint64_t{kMultiplier1} * counter[2];
    counter = {high(p1) ^ counter[1] ^ key[0], low(p1), high(p0) ^ counter[3] ^ key[1], low(p0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

std::uint64_t name_id(std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return splitmix64(hash);
}

namespace {

constexpr std::size_t kLanes = 4;  // blocks at once

/// kLanes blocks in a row, each as philox4x32 makes it. A word is the lower half of its 64 bits; what is in
/// the upper one is never used.
void philox_lanes(const std::array<std::uint32_t, 4>& first, std::array<std::uint32_t, 2> key,
                  std::uint32_t* out) {
  const auto word = [](std::uint32_t value) { return _mm256_set1_epi64x(value); };
  const auto block = static_cast<std::int64_t>(static_cast<std::uint64_t>(first[1]) << 32 | first[0]);
  const auto blocks = _mm256_add_epi64(_mm256_set1_epi64x(block), _mm256_set_epi64x(3, 2, 1, 0));
  auto c0 = blocks;
  auto c1 = _mm256_srli_epi64(blocks, 32);
  auto c2 = word(first[2]);
  auto c3 = word(first[3]);
  for (int round = 0; round < 10; ++round) {
    const auto p0 = _mm256_mul_epu32(c0, word(kMultiplier0));
    const auto p1 = _mm256_mul_epu32(c2, word(kMultiplier1));
    c0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), c1), word(key[0]));
    c2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3), word(key[1]));
    c1 = p1;
    c3 = p0;
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  // From words by lanes to lanes by words.
  const auto pairs01 = _mm256_blend_epi32(c0, _mm256_slli_epi64(c1, 32), 0b10101010);
  const auto pairs23 = _mm256_blend_epi32(c2, _mm256_slli_epi64(c3, 32), 0b10101010);
  const auto even = _mm256_unpacklo_epi64(pairs01, pairs23);  // lanes 0 and 2
  const auto odd = _mm256_unpackhi_epi64(pairs01, pairs23);   // lanes 1 and 3
  auto* const to = reinterpret_cast<__m256i*>(out);
  _mm256_storeu_si256(to, _mm256_permute2x128_si256(even, odd, 0x20));
  _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(even, odd, 0x31));
}

}  // namespace

Rng::Rng(std::uint64_t seed, std::string_view purpose, std::uint64_t id, std::uint64_t step) {
  const std::uint64_t key = splitmix64(splitmix64(seed ^ name_id(purpose)) ^ step);
  key_ = {low(key), high(key)};
  counter_ = {0, 0, low(id), high(id)};
}

void Rng::refill() {
  block_ = philox4x32(counter_, key_);
  if (++counter_[0] == 0) ++counter_[1];
  used_ = 0;
}

std::uint32_t Rng::next() {
  if (used_ == block_.size()) refill();
  return block_[used_++];
}

void Rng::fill(std::span<std::uint32_t> out) {
  std::size_t done = 0;
  while (used_ < block_.size() && done < out.size()) out[done++] = block_[used_++];
  for (; out.size() - done >= 4 * kLanes; done += 4 * kLanes) {
    philox_lanes(counter_, key_, out.data() + done);
    const auto block = (static_cast<std::uint64_t>(counter_[1]) << 32 | counter_[0]) + kLanes;
    counter_[0] = low(block);
    counter_[1] = high(block);
  }
  while (done < out.size()) out[done++] = next();
}

void Rng::skip(std::uint64_t count) {
  const std::uint64_t rest = block_.size() - used_;
  if (count <= rest) {
    used_ += static_cast<unsigned>(count);
    return;
  }
  count -= rest;
  const auto block = (static_cast<std::uint64_t>(counter_[1]) << 32 | counter_[0]) + count / block_.size();
  counter_[0] = low(block);
  counter_[1] = high(block);
  refill();
  used_ = static_cast<unsigned>(count % block_.size());
}

std::uint64_t Rng::next64() {
  const std::uint64_t upper = next();
  return upper << 32 | next();
}

float Rng::uniform() { return static_cast<float>(next() >> 8) * 0x1.0p-24F; }

double Rng::uniform_double() { return static_cast<double>(next64() >> 11) * 0x1.0p-53; }

double Rng::normal() {
  // The middle of one of 2^53 equal intervals, so that 0 and 1 cannot come.
  return inverse_normal_cdf((static_cast<double>(next64() >> 11) + 0.5) * 0x1.0p-53);
}

double Rng::gamma(double shape) {
  if (shape < 1.0) {
    const double u = 1.0 - uniform_double();
    return gamma(shape + 1.0) * std::pow(u, 1.0 / shape);
  }
  const double d = shape - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  for (;;) {
    const double x = normal();
    const double v = std::pow(1.0 + c * x, 3);
    if (v <= 0) continue;
    const double u = 1.0 - uniform_double();
    if (std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

std::uint64_t Rng::below(std::uint64_t bound) {
  __extension__ typedef unsigned __int128 Wide;
  Wide product = static_cast<Wide>(next64()) * bound;
  if (static_cast<std::uint64_t>(product) < bound) {
    const std::uint64_t threshold = -bound % bound;
    while (static_cast<std::uint64_t>(product) < threshold) product = static_cast<Wide>(next64()) * bound;
  }
  return static_cast<std::uint64_t>(product >> 64);
}

std::vector<std::int64_t> Rng::permutation(std::int64_t n) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  shuffle(std::span<std::int64_t>(order));
  return order;
}

}  // namespace impart

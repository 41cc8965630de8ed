// Rng: counter-based random numbers that depend on what they are for, never on who draws them.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace impart {

/// A stream of random numbers, given wholly by (seed, purpose, id, step): the same key gives the same numbers
/// on every rank, thread and machine. Making one costs a few nanoseconds, so make one for each sample or
/// tensor.
///
/// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
/// Draws use only exact integer and IEEE arithmetic, the tails of `normal` also log and sqrt.
class Rng {
 public:
  /// `purpose`: a fixed word for the use ("shuffle", "dropout:fc1"); `id`: a sample id, a client, a hash of a
  /// name; `step`: when. Streams with different keys are independent.
  Rng(std::uint64_t seed, std::string_view purpose, std::uint64_t id = 0, std::uint64_t step = 0);

  std::uint32_t next();
  /// The next numbers, as `next` gives them one by one, several times as fast.
  void fill(std::span<std::uint32_t> out);
  /// As if `next` were called so often, at once.
  void skip(std::uint64_t count);
  std::uint64_t next64();
  float uniform();          ///< in [0, 1), a multiple of 2^-24
  double uniform_double();  ///< in [0, 1), a multiple of 2^-53
  double normal();  ///< mean 0, variance 1: inverse of the distribution function (Wichura 1988, AS 241)
  double gamma(double shape);  ///< Gamma(shape, 1), shape > 0 (Marsaglia and Tsang 2000)
  /// In [0, bound), without bias (Lemire 2019). REQUIRES: bound > 0.
  std::uint64_t below(std::uint64_t bound);

  /// Fisher-Yates: every order is equally likely.
  template <class T>
  void shuffle(std::span<T> values) {
    for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }
  /// 0 ... n-1 in random order.
  std::vector<std::int64_t> permutation(std::int64_t n);

 private:
  void refill();

  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> counter_;  // block number (64 bits), id (64 bits)
  std::array<std::uint32_t, 4> block_{};
  unsigned used_ = 4;  // of block_
};

/// One Philox4x32-10 block, for the published test vectors.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

/// The value below which a standard normal variate lies with probability `p`, to about 1e-16 (Wichura 1988,
/// AS 241). REQUIRES: 0 < p < 1.
double inverse_normal_cdf(double p);

/// A 64-bit hash of a name, for use as an Rng's id (FNV-1a, finished by splitmix64).
std::uint64_t name_id(std::string_view name);

}  // namespace impart

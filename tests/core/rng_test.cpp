#include "impart/core/rng.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <vector>

namespace impart {
namespace {

using Block = std::array<std::uint32_t, 4>;

constexpr int kDraws = 400000;

/// Greatest distance between the draws' distribution and `cdf` (Kolmogorov and Smirnov), times sqrt(n). Above
/// 1.95 with probability 0.001 when the draws follow `cdf`; keys are fixed, so that a test that passes once
/// passes always.
double ks_statistic(std::vector<double> draws, const std::function<double(double)>& cdf) {
  std::ranges::sort(draws);
  const auto n = static_cast<double>(draws.size());
  double distance = 0;
  for (std::size_t i = 0; i < draws.size(); ++i) {
    const double p = cdf(draws[i]);
    distance = std::max({distance, p - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - p});
  }
  return distance * std::sqrt(n);
}

constexpr double kKsBound = 1.95;

/// Pearson's statistic of counts that should be equal.
double chi_square(std::span<const int> counts) {
  double total = 0;
  for (const int n : counts) total += n;
  const double each = total / static_cast<double>(counts.size());
  double sum = 0;
  for (const int n : counts) sum += (n - each) * (n - each) / each;
  return sum;
}

struct Moments {
  double mean = 0;
  double variance = 0;
};

Moments moments(std::span<const double> draws) {
  const auto n = static_cast<double>(draws.size());
  Moments m;
  for (const double x : draws) m.mean += x / n;
  for (const double x : draws) m.variance += (x - m.mean) * (x - m.mean) / n;
  return m;
}

std::vector<double> draw(const std::function<double(Rng&)>& one) {
  Rng rng(11, "test");
  std::vector<double> draws(kDraws);
  for (auto& x : draws) x = one(rng);
  return draws;
}

// kat_vectors of Random123, the authors' own library, "philox4x32 10".
TEST(Rng, FillsAsItDrawsOneByOne) {
  for (const std::size_t before : {0U, 1U, 4U, 6U}) {
    for (const std::size_t count : {0U, 3U, 31U, 32U, 33U, 100U, 1000U}) {
      Rng single(5, "fill", 7, 9);
      Rng bulk(5, "fill", 7, 9);
      for (std::size_t i = 0; i < before; ++i) EXPECT_EQ(single.next(), bulk.next());
      std::vector<std::uint32_t> drawn(count);
      bulk.fill(drawn);
      for (const auto value : drawn) ASSERT_EQ(value, single.next());
      EXPECT_EQ(bulk.next64(), single.next64());
    }
  }
}

TEST(Rng, SkipsAsIfItHadDrawn) {
  for (const std::uint64_t first : {0U, 1U, 3U, 4U}) {
    for (const std::uint64_t count : {0U, 1U, 2U, 3U, 4U, 5U, 8U, 1001U}) {
      Rng drawn(5, "skip", 7, 9);
      Rng skipped(5, "skip", 7, 9);
      for (std::uint64_t i = 0; i < first; ++i) ASSERT_EQ(drawn.next(), skipped.next());
      for (std::uint64_t i = 0; i < count; ++i) drawn.next();
      skipped.skip(count);
      EXPECT_EQ(drawn.next(), skipped.next()) << first << ", " << count;
    }
  }
}

TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// From a second implementation, in Python: old checkpoints can be made again only while these hold.
TEST(Rng, StreamIsFixedForEver) {
  Rng rng(7, "shuffle", (5ULL << 32) | 3, 2);
  for (const std::uint32_t wanted : {0x3ff9ebb3U, 0xef0ab5c4U, 0x1b5ec190U, 0x3e251db4U, 0x673d41e4U,
                                     0x5cfac832U, 0x580e9292U, 0x0317a706U}) {
    EXPECT_EQ(rng.next(), wanted);
  }
  EXPECT_EQ(name_id("conv1.weight"), 0x8b8a08a85128a1b0ULL);
}

TEST(Rng, EachPartOfTheKeyCounts) {
  std::set<std::uint64_t> first;
  int streams = 0;
  for (const std::uint64_t seed : {0, 1, 2}) {
    for (const char* purpose : {"init", "shuffle", "dropout:fc1"}) {
      for (const std::uint64_t id : {0ULL, 1ULL, 1ULL << 32}) {
        for (const std::uint64_t step : {0ULL, 1ULL, 1ULL << 32}) {
          first.insert(Rng(seed, purpose, id, step).next64());
          ++streams;
        }
      }
    }
  }
  EXPECT_EQ(first.size(), static_cast<std::size_t>(streams));
}

TEST(Rng, FirstDrawsOfNeighbouringStreamsAreUniformAndUncorrelated) {
  const std::vector<std::function<Rng(std::uint64_t)>> ways{
      [](std::uint64_t i) { return Rng(3, "mask", i); }, [](std::uint64_t i) { return Rng(3, "mask", 5, i); },
      [](std::uint64_t i) { return Rng(i, "mask"); }};
  for (const auto& stream : ways) {
    std::vector<double> draws(kDraws);
    for (std::size_t i = 0; i < draws.size(); ++i) draws[i] = stream(i).uniform_double();
    EXPECT_LT(ks_statistic(draws, [](double x) { return x; }), kKsBound);
    double correlation = 0;
    for (std::size_t i = 1; i < draws.size(); ++i)
      correlation += 12 * (draws[i - 1] - 0.5) * (draws[i] - 0.5);
    EXPECT_LT(std::abs(correlation) / std::sqrt(kDraws), 4.0);
  }
}

TEST(Rng, UniformIsUniform) {
  EXPECT_LT(ks_statistic(draw([](Rng& rng) { return rng.uniform_double(); }), [](double x) { return x; }),
            kKsBound);
  const auto floats = draw([](Rng& rng) { return static_cast<double>(rng.uniform()); });
  EXPECT_LT(ks_statistic(floats, [](double x) { return x; }), kKsBound);
  for (const double x : floats) {
    ASSERT_TRUE(x >= 0 && x < 1) << x;
    ASSERT_EQ(x * 0x1.0p24, std::floor(x * 0x1.0p24)) << x;
  }
}

TEST(Rng, NormalIsNormal) {
  const auto draws = draw([](Rng& rng) { return rng.normal(); });
  EXPECT_LT(ks_statistic(draws, [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }), kKsBound);
  const auto [mean, variance] = moments(draws);
  EXPECT_NEAR(mean, 0, 4 / std::sqrt(kDraws));
  EXPECT_NEAR(variance, 1, 4 * std::sqrt(2.0 / kDraws));
  // Both tails beyond 2.5 sigma, which another branch of the inverse computes.
  const double tail = std::erfc(2.5 / std::sqrt(2.0));
  const auto beyond = std::ranges::count_if(draws, [](double x) { return std::abs(x) > 2.5; });
  EXPECT_NEAR(static_cast<double>(beyond), tail * kDraws, 4 * std::sqrt(tail * kDraws));
}

TEST(Rng, GammaHasItsDistribution) {
  const std::map<double, std::function<double(double)>> closed_forms{
      {0.5, [](double x) { return std::erf(std::sqrt(x)); }},
      {1.0, [](double x) { return 1 - std::exp(-x); }},
      {2.0, [](double x) { return 1 - (1 + x) * std::exp(-x); }}};
  for (const auto& [shape, cdf] : closed_forms) {
    const double k = shape;
    EXPECT_LT(ks_statistic(draw([k](Rng& rng) { return rng.gamma(k); }), cdf), kKsBound) << "shape " << k;
  }
  for (const double k : {0.1, 0.5, 1.0, 4.5, 100.0}) {
    const auto [mean, variance] = moments(draw([k](Rng& rng) { return rng.gamma(k); }));
    EXPECT_NEAR(mean, k, 4 * std::sqrt(k / kDraws)) << "shape " << k;
    EXPECT_NEAR(variance, k, 4 * std::sqrt((2 * k * k + 6 * k) / kDraws)) << "shape " << k;
  }
}

TEST(Rng, BelowIsUnbiased) {
  std::array<int, 10> tens{};
  // With 3 * 2^62 values, a multiplication without rejection gives every third value twice as often.
  constexpr std::uint64_t kWide = 3ULL << 62;
  std::array<int, 3> thirds{};
  Rng rng(5, "below");
  for (int i = 0; i < kDraws; ++i) {
    const auto small = rng.below(10);
    ASSERT_LT(small, 10U);
    ++tens[small];
    const auto wide = rng.below(kWide);
    ASSERT_LT(wide, kWide);
    ++thirds[wide % 3];
    ASSERT_EQ(rng.below(1), 0U);
  }
  EXPECT_LT(chi_square(tens), 27.9) << "9 degrees of freedom, p = 0.001";
  EXPECT_LT(chi_square(thirds), 13.8) << "2 degrees of freedom, p = 0.001";
}

TEST(Rng, EveryOrderIsEquallyLikely) {
  std::map<std::vector<int>, int> orders;
  for (int i = 0; i < 48000; ++i) {
    std::vector<int> values{0, 1, 2, 3};
    Rng(9, "shuffle", static_cast<std::uint64_t>(i)).shuffle(std::span<int>(values));
    ++orders[values];
  }
  ASSERT_EQ(orders.size(), 24U);
  std::vector<int> counts;
  for (const auto& [order, n] : orders) counts.push_back(n);
  EXPECT_LT(chi_square(counts), 49.7) << "23 degrees of freedom, p = 0.001";
}

TEST(Rng, PermutationHoldsEachOnce) {
  for (const std::int64_t n : {0, 1, 2, 1000}) {
    auto order = Rng(1, "p", static_cast<std::uint64_t>(n)).permutation(n);
    EXPECT_EQ(order, Rng(1, "p", static_cast<std::uint64_t>(n)).permutation(n)) << "the same key";
    if (n == 1000) {
      EXPECT_FALSE(std::ranges::is_sorted(order));
    }
    std::ranges::sort(order);
    ASSERT_EQ(order.size(), static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(order[static_cast<std::size_t>(i)], i);
  }
}

}  // namespace
}  // namespace impart

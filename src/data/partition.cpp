#include "impart/data/partition.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <string>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"

namespace impart::data {

namespace {

/// Positions ordered by the samples' digests; equal samples by position.
Indices by_digest(const Dataset& dataset) {
  Indices order(static_cast<std::size_t>(dataset.size()));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    const auto c = dataset.digest(a) <=> dataset.digest(b);
    return c != 0 ? c < 0 : a < b;
  });
  return order;
}

std::vector<Indices> by_class(const Dataset& dataset) {
  std::vector<Indices> members(static_cast<std::size_t>(dataset.classes()));
  for (std::int64_t i = 0; i < dataset.size(); ++i)
    members[static_cast<std::size_t>(dataset.label(i))].push_back(i);
  return members;
}

void sort_all(std::vector<Indices>& parts) {
  for (auto& part : parts) std::sort(part.begin(), part.end());
}

}  // namespace

std::int64_t cut(double fraction, std::int64_t n) {
  return std::min(n, static_cast<std::int64_t>(std::llround(fraction * static_cast<double>(n))));
}

std::vector<Indices> split_by_digest(const Dataset& dataset, const std::vector<double>& fractions) {
  const auto order = by_digest(dataset);
  std::vector<Indices> parts;
  double until = 0;
  std::int64_t begin = 0;
  for (const double fraction : fractions) {
    until += fraction;
    const auto end = cut(until, dataset.size());
    parts.emplace_back(order.begin() + begin, order.begin() + end);
    begin = end;
  }
  sort_all(parts);
  return parts;
}

std::vector<Indices> split_in_order(const Dataset& dataset, const std::vector<double>& fractions,
                                    std::int64_t gap) {
  std::vector<Indices> parts;
  double until = 0;
  std::int64_t begin = 0;
  for (const double fraction : fractions) {
    until += fraction;
    const auto end = cut(until, dataset.size());
    auto& part = parts.emplace_back();
    const auto first = begin == 0 ? begin : begin + gap;
    for (auto i = first; i < end; ++i) part.push_back(i);
    begin = end;
  }
  return parts;
}

Indices limit_per_class(const Dataset& dataset, std::int64_t per_class) {
  std::vector<std::int64_t> taken(static_cast<std::size_t>(dataset.classes()));
  Indices chosen;
  for (const auto i : by_digest(dataset)) {
    auto& count = taken[static_cast<std::size_t>(dataset.label(i))];
    if (count == per_class) continue;
    ++count;
    chosen.push_back(i);
  }
  for (std::size_t c = 0; c < taken.size(); ++c) {
    if (taken[c] < per_class) {
      throw Error("too few samples of class " + std::to_string(c))
          .expected("at least " + std::to_string(per_class))
          .got(std::to_string(taken[c]))
          .hint("lower `limit`");
    }
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

std::vector<Indices> partition_iid(const Dataset& dataset, int parts, std::uint64_t seed) {
  const auto order = Rng(seed, "partition iid").permutation(dataset.size());
  std::vector<Indices> result;
  for (std::int64_t p = 0; p < parts; ++p) {
    result.emplace_back(order.begin() + p * dataset.size() / parts,
                        order.begin() + (p + 1) * dataset.size() / parts);
  }
  sort_all(result);
  return result;
}

std::vector<Indices> partition_dirichlet(const Dataset& dataset, int parts, double alpha,
                                         std::int64_t min_samples, std::uint64_t seed) {
  constexpr std::uint64_t kAttempts = 1000;
  const auto classes = by_class(dataset);
  for (std::uint64_t attempt = 0; attempt < kAttempts; ++attempt) {
    std::vector<Indices> result(static_cast<std::size_t>(parts));
    for (std::size_t c = 0; c < classes.size(); ++c) {
      Rng rng(seed, "partition dirichlet", c, attempt);
      // Gamma variates divided by their sum are a Dirichlet variate.
      std::vector<double> share(static_cast<std::size_t>(parts));
      for (auto& s : share) s = rng.gamma(alpha);
      const double total = std::accumulate(share.begin(), share.end(), 0.0);
      auto members = classes[c];
      rng.shuffle(std::span(members));
      const auto n = static_cast<std::int64_t>(members.size());
      double until = 0;
      std::int64_t begin = 0;
      for (std::size_t p = 0; p < share.size(); ++p) {
        until += total > 0 ? share[p] / total : 1.0 / parts;
        const auto end = p + 1 == share.size() ? n : cut(until, n);
        result[p].insert(result[p].end(), members.begin() + begin, members.begin() + end);
        begin = end;
      }
    }
    const bool enough = std::all_of(result.begin(), result.end(), [&](const Indices& part) {
      return static_cast<std::int64_t>(part.size()) >= min_samples;
    });
    if (enough) {
      sort_all(result);
      return result;
    }
  }
  throw Error("no Dirichlet partition gives every part enough samples")
      .expected("at least " + std::to_string(min_samples) + " in each of " + std::to_string(parts) +
                " parts of " + std::to_string(dataset.size()))
      .hint("raise `alpha`, or lower `min_samples` or the number of clients");
}

}  // namespace impart::data

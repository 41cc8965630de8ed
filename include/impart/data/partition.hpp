// Which samples go where: splits, limits, and the clients of a federation. Pure functions of the data and a
// seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "impart/data/dataset.hpp"

namespace impart::data {

using Indices = std::vector<std::int64_t>;

/// Where `n` samples are cut so that the parts up to there have this fraction of them: sums of fractions are
/// rounded, so that nothing is lost.
std::int64_t cut(double fraction, std::int64_t n);

/// Parts of `dataset` with the given fractions (sum at most 1). Samples are ordered by their digests and
/// dealt out, so a sample's part depends on what it is and not on where it stands in the file. Each part is
/// in the order of the dataset.
std::vector<Indices> split_by_digest(const Dataset& dataset, const std::vector<double>& fractions);

/// Parts of a dataset whose order has a meaning, as windows of one text: each is a run of samples, one after
/// the other, with the given fractions (sum at most 1). Between two parts `gap` samples are left out, taken
/// from the later one, so that no window reaches from one part into the next.
std::vector<Indices> split_in_order(const Dataset& dataset, const std::vector<double>& fractions,
                                    std::int64_t gap);

/// At most `per_class` samples of each class: the first by digest. Throws Error when a class has fewer.
Indices limit_per_class(const Dataset& dataset, std::int64_t per_class);

/// `parts` equal shares in random order; sizes differ by at most one.
std::vector<Indices> partition_iid(const Dataset& dataset, int parts, std::uint64_t seed);

/// Each class is dealt over the parts in proportions drawn from Dirichlet(alpha) (Hsu, Qi, Brown 2019): small
/// alpha gives each part few classes. Drawn again until each part has at least `min_samples`; throws Error
/// when that does not come about.
std::vector<Indices> partition_dirichlet(const Dataset& dataset, int parts, double alpha,
                                         std::int64_t min_samples, std::uint64_t seed);

}  // namespace impart::data

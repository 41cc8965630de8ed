#include "runner/rank_groups.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "impart/comm/tree_reducer.hpp"

namespace impart::runner {

namespace {

// One after another may be as fast on paper, but ranks that share less work wait less for each other.
constexpr double kTolerance = 1.05;

/// `count` groups of equal size, each stage given to the group that has least so far.
std::vector<RankGroup> deal_by_cost(std::vector<Candidate> candidates, int count, int size, double& longest) {
  std::ranges::stable_sort(candidates, std::greater<>(), &Candidate::cost);
  std::vector<RankGroup> groups(static_cast<std::size_t>(count), RankGroup{size, {}});
  std::vector<double> load(groups.size(), 0);
  for (const auto& candidate : candidates) {
    const auto least = std::ranges::min_element(load) - load.begin();
    groups[static_cast<std::size_t>(least)].stages.push_back(candidate.stage);
    load[static_cast<std::size_t>(least)] += candidate.cost;
  }
  longest = *std::ranges::max_element(load) / size;
  for (auto& group : groups) std::ranges::sort(group.stages);
  return groups;
}

}  // namespace

std::vector<RankGroup> deal_ranks(const std::vector<Candidate>& candidates, int ranks, int shards) {
  const auto& first = candidates.front();
  const auto alone = [&] {
    const int size = first.ranks > 0 ? first.ranks : comm::largest_rank_count(shards, ranks);
    return std::vector<RankGroup>{{size, {first.stage}}};
  };
  if (first.ranks == 0 && first.cost <= 0) return alone();

  std::vector<RankGroup> groups;
  std::vector<Candidate> free;
  int left = ranks;
  for (const auto& candidate : candidates) {
    if (candidate.ranks > 0 && candidate.ranks <= left) {
      groups.push_back({candidate.ranks, {candidate.stage}});
      left -= candidate.ranks;
    } else if (candidate.ranks == 0 && candidate.cost > 0) {
      free.push_back(candidate);
    }
  }
  std::erase_if(free, [&](const Candidate& c) { return c.least > comm::largest_rank_count(shards, left); });
  if (groups.empty() && free.size() <= 1) return alone();
  if (free.empty() || left == 0) return groups;

  const double total = std::accumulate(free.begin(), free.end(), 0.0,
                                       [](double sum, const Candidate& c) { return sum + c.cost; });
  const int least = std::ranges::max(free, {}, &Candidate::least).least;
  for (int count = std::min(left, static_cast<int>(free.size())); count >= 1; --count) {
    double longest = 0;
    const int size = comm::largest_rank_count(shards, left / count);
    if (size < least) continue;
    auto dealt = deal_by_cost(free, count, size, longest);
    if (count > 1 && longest > kTolerance * total / comm::largest_rank_count(shards, left)) continue;
    if (count == 1 && groups.empty()) return alone();
    groups.insert(groups.end(), dealt.begin(), dealt.end());
    break;
  }
  return groups;
}

}  // namespace impart::runner

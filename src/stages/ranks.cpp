#include "impart/stages/ranks.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "impart/comm/shards.hpp"

namespace impart::stages {

int wanted_ranks(const Stage& stage, int ranks, int shards) {
  if (stage.common().ranks <= 0) return stage.mesh() == comm::MeshShape{} ? 0 : ranks;
  if (stage.common().ranks >= 1) return static_cast<int>(stage.common().ranks);
  return comm::largest_rank_count(shards, std::max(1, static_cast<int>(stage.common().ranks * ranks)));
}

bool splits_tensors(const Deck& deck) {
  return std::ranges::any_of(deck.stages, [](const auto& stage) { return stage->mesh().tensor > 1; });
}

std::string why_not_ranks(int ranks, int shards, std::string_view setting) {
  const auto allowed = comm::allowed_rank_counts(shards);
  if (std::ranges::find(allowed, ranks) != allowed.end()) return "";
  return fmt::format("expected a number that divides the {} shards: {}, got {} (change {}, or run.shards)",
                     shards, fmt::join(allowed, ", "), ranks, setting);
}

}  // namespace impart::stages

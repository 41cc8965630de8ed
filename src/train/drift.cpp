#include "train/drift.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"

namespace impart::train {

namespace {

constexpr int kPieceBits = 12;  // the sum over 4,096 ranks is exact in a float

// FNV-1a (Fowler, Noll, Vo 1991) over words, in lanes that do not wait for each other.
std::uint64_t hash_of(std::span<const float> values) {
  constexpr std::uint64_t kPrime = 0x100000001b3;
  constexpr std::size_t kWidth = 4;
  std::array<std::uint64_t, kWidth> lanes{0xcbf29ce484222325, 1, 2, 3};
  const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
  const std::size_t size = values.size() * sizeof(float);
  std::size_t at = 0;
  for (; at + sizeof(lanes) <= size; at += sizeof(lanes)) {
    std::array<std::uint64_t, kWidth> words;
    std::memcpy(words.data(), bytes + at, sizeof(words));
    for (std::size_t i = 0; i < kWidth; ++i) lanes[i] = (lanes[i] ^ words[i]) * kPrime;
  }
  for (; at < size; ++at) lanes[0] = (lanes[0] ^ static_cast<std::uint64_t>(bytes[at])) * kPrime;
  std::uint64_t hash = 0;
  for (const auto lane : lanes) {
    hash = (hash ^ lane) * kPrime;
    hash ^= hash >> 32;  // multiplications carry upwards only
  }
  return hash;
}

/// Factors of the ranks, which add up to zero.
std::vector<int> signs_of(int ranks, std::int64_t step, std::size_t lane) {
  std::vector<std::size_t> order(static_cast<std::size_t>(ranks));
  std::iota(order.begin(), order.end(), std::size_t{0});
  Rng rng(static_cast<std::uint64_t>(step), "drift", lane);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
  std::vector<int> signs(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) signs[order[i]] = i % 2 == 0 ? 1 : -1;
  if (ranks % 2 != 0) {  // the last three are 1, -2, 1
    signs[order[order.size() - 1]] = 1;
    signs[order[order.size() - 3]] = 1;
    signs[order[order.size() - 2]] = -2;
  }
  return signs;
}

}  // namespace

DriftCheck::DriftCheck(const comm::Comm& comm, int every, bool all_ranks)
    : comm_(comm), every_(every), all_ranks_(all_ranks) {}

bool DriftCheck::is_due(std::int64_t step) const {
  return every_ > 0 && comm_.size() > 1 && step % every_ == 0;
}

void DriftCheck::put(const StateDict& state, std::int64_t step, std::span<float, kLanes> lanes) const {
  std::ranges::fill(lanes, 0.0F);
  if (comm_.size() == 1) return;
  const auto hash = hash_of(state.arena());
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const auto piece = static_cast<int>(hash >> (lane * kPieceBits) & ((1U << kPieceBits) - 1));
    const auto sign = signs_of(comm_.size(), step, lane)[static_cast<std::size_t>(comm_.rank())];
    lanes[lane] = static_cast<float>(sign * piece);
  }
}

void DriftCheck::verify(const StateDict& state, std::int64_t step, std::span<const float, kLanes> lanes) {
  if (std::ranges::any_of(lanes, [](float sum) { return sum != 0; })) fail(state, step);
  equal_at_ = step;
}

void DriftCheck::fail(const StateDict& state, std::int64_t step) const {
  for (const auto& tensor : state.layout().entries()) {
    const auto hashes = comm_.gather_all(hash_of(state.values(tensor)), "drift");
    std::map<std::uint64_t, int> count;
    for (const auto hash : hashes) ++count[hash];
    if (count.size() == 1) continue;
    const auto common =
        std::ranges::max_element(count, {}, [](const auto& entry) { return entry.second; })->first;
    std::vector<std::size_t> others;
    for (std::size_t rank = 0; rank < hashes.size(); ++rank) {
      if (hashes[rank] != common) others.push_back(rank);
    }
    auto error =
        Error("the ranks no longer have the same weights")
            .at(fmt::format("step {}", step))
            .expected(equal_at_ < 0 ? std::string("equal bits on all ranks")
                                    : fmt::format("equal bits on all ranks, as at step {}", equal_at_))
            .got(fmt::format("others in '{}' on rank {}", tensor.name, fmt::join(others, ", ")))
            .hint(
                "a fault of memory or of the network; run again without that node, from the last saved "
                "state");
    if (all_ranks_) throw std::move(error).collective();
    throw error;
  }
}

}  // namespace impart::train

#include "comm/tree_exchange.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace impart::comm {

namespace {

/// The slice of `values` that member `member` of `members` sums.
template <class T>
std::span<T> slice(std::span<T> values, std::size_t member, std::size_t members) {
  const auto begin = values.size() * member / members;
  return values.subspan(begin, values.size() * (member + 1) / members - begin);
}

}  // namespace

TreeMembers::TreeMembers(std::vector<ShardRange> ranges, int shards) {
  std::vector<ShardRange> all;
  for (const auto range : ranges) {
    parts.push_back(partial_sums(range, shards));
    all.insert(all.end(), parts.back().begin(), parts.back().end());
  }
  sums = additions(all, shards);
  halving = std::has_single_bit(ranges.size()) &&
            std::ranges::all_of(ranges, [&](auto range) { return range.size() == ranges[0].size(); });
}

void MpiExchange::start() { request_ = comm_.begin_sum(values_); }

bool MpiExchange::advance() {
  int done = 0;
  MPI_Test(&request_, &done, MPI_STATUS_IGNORE);
  return done != 0;
}

template <class T>
TreeExchange<T>::TreeExchange(const Comm& comm, const TreeMembers& members, std::vector<std::span<T>> parts,
                              int tag)
    : comm_(comm), tag_(tag) {
  if (members.halving) {
    lay_out_halving(parts[0]);
  } else {
    lay_out_direct(members, parts);
  }
  std::size_t most = 0;
  for (const auto& stage : stages_) most = std::max(most, stage.sends.size() + stage.receives.size());
  requests_.reserve(most);
  stage_ = stages_.size();
}

template <class T>
void TreeExchange<T>::lay_out_halving(std::span<T> values) {
  const int rank = comm_.rank();
  const int ranks = comm_.size();
  received_.resize(values.size() - values.size() / 2);
  // Halving: at each distance the lower partner keeps the lower half of what both hold, the upper the upper.
  std::vector<std::span<T>> held{values};
  for (int distance = 1; distance < ranks; distance *= 2) {
    const auto mine = held.back();
    const auto half = mine.size() / 2;
    const bool lower = (rank & distance) == 0;
    const auto keep = lower ? mine.first(half) : mine.subspan(half);
    const auto give = lower ? mine.subspan(half) : mine.first(half);
    const std::span<T> received(received_.data(), keep.size());
    stages_.push_back({{{give, rank ^ distance}}, {{received, rank ^ distance}}, {{keep, received, false}}});
    held.push_back(keep);
  }
  // Doubling: back up the same way, swapping finished parts.
  for (int distance = ranks / 2; distance >= 1; distance /= 2) {
    const auto mine = held.back();
    held.pop_back();
    const auto both = held.back();
    const bool lower = (rank & distance) == 0;
    const auto theirs = lower ? both.subspan(mine.size()) : both.first(both.size() - mine.size());
    stages_.push_back({{{mine, rank ^ distance}}, {{theirs, rank ^ distance}}, {}});
  }
}

template <class T>
void TreeExchange<T>::lay_out_direct(const TreeMembers& members, std::span<const std::span<T>> parts) {
  const auto count = members.parts.size();
  const auto me = static_cast<std::size_t>(comm_.rank());
  const auto size = slice(parts[0], me, count).size();
  std::size_t others = 0;
  for (std::size_t m = 0; m < count; ++m) others += m == me ? 0 : members.parts[m].size();
  received_.resize(others * size);

  Stage scatter;
  Stage gather;
  std::vector<std::span<T>> all;  // my slice of all partial sums
  std::size_t used = 0;
  for (std::size_t m = 0; m < count; ++m) {
    const int peer = static_cast<int>(m);
    for (std::size_t part = 0; part < members.parts[m].size(); ++part) {
      all.push_back(m == me ? slice(parts[part], me, count) : std::span(received_).subspan(used, size));
      if (m == me) continue;
      used += size;
      scatter.receives.push_back({all.back(), peer});
    }
    if (m == me) continue;
    for (const auto part : parts) scatter.sends.push_back({slice(part, m, count), peer});
    gather.sends.push_back({slice(parts[0], me, count), peer});
    gather.receives.push_back({slice(parts[0], m, count), peer});
  }
  for (const auto [into, from] : members.sums) scatter.steps.push_back({all[into], all[from], false});
  if (me != 0) scatter.steps.push_back({slice(parts[0], me, count), all[0], true});
  stages_.push_back(std::move(scatter));
  stages_.push_back(std::move(gather));
}

template <class T>
void TreeExchange<T>::start() {
  stage_ = 0;
  begin_stage();
}

// Messages of one peer are received in the order in which they are sent.
template <class T>
void TreeExchange<T>::begin_stage() {
  requests_.clear();
  if (stage_ == stages_.size()) return;
  for (const auto& message : stages_[stage_].receives) {
    requests_.push_back(comm_.begin_receive(message.values, message.peer, tag_));
  }
  for (const auto& message : stages_[stage_].sends) {
    requests_.push_back(comm_.begin_send<T>(message.values, message.peer, tag_));
  }
}

template <class T>
bool TreeExchange<T>::advance() {
  while (stage_ < stages_.size()) {
    int done = 0;
    MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE);
    if (done == 0) return false;
    for (const auto& [into, from, copy] : stages_[stage_].steps) {
      if (copy) {
        std::copy(from.begin(), from.end(), into.begin());
      } else {
        for (std::size_t i = 0; i < into.size(); ++i) into[i] += from[i];
      }
    }
    ++stage_;
    begin_stage();
  }
  return true;
}

template class TreeExchange<float>;
template class TreeExchange<double>;

}  // namespace impart::comm

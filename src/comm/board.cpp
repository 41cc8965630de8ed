#include "comm/board.hpp"

#include <algorithm>
#include <mutex>

namespace impart::comm {

namespace {

Slot own_slot;
std::atomic<Slot*> current{&own_slot};
std::mutex changing;  // which communicators are counted

double seconds_between(std::uint64_t from, std::uint64_t to) {
  return to > from ? static_cast<double>(to - from) * 1e-9 : 0.0;
}

void copy(const Slot& from, Slot& to) {
  to.step = from.step.load();
  to.stage.store(from.stage.load());
  to.call.store(from.call.load());
  to.waiting_in = from.waiting_in.load();
  to.since = from.since.load();
  for (std::size_t i = 0; i < kWatchedComms; ++i) {
    to.calls[i].comm = from.calls[i].comm.load();
    to.calls[i].count = from.calls[i].count.load();
  }
  to.process = from.process.load();
  to.host.store(from.host.load());
  to.beat = now_ns();
}

}  // namespace

Slot& my_slot() noexcept { return *current.load(std::memory_order_relaxed); }

void move_my_slot(Slot* to) noexcept {
  auto& target = to != nullptr ? *to : own_slot;
  copy(my_slot(), target);
  current = &target;
}

void count_calls_on(std::uint64_t comm) noexcept {
  const std::scoped_lock lock(changing);
  const auto free = std::ranges::find_if(my_slot().calls, [](const auto& calls) { return calls.comm == 0; });
  if (free == my_slot().calls.end()) return;
  free->count = 0;
  free->comm = comm;
}

void forget_calls_on(std::uint64_t comm) noexcept {
  const std::scoped_lock lock(changing);
  for (auto& calls : my_slot().calls) {
    if (calls.comm == comm) calls.comm = 0;
  }
}

std::optional<std::uint64_t> RankStatus::calls_on(std::uint64_t comm) const {
  const auto found = std::ranges::find(calls, comm, &Calls::comm);
  if (found == calls.end()) return std::nullopt;
  return found->count;
}

RankStatus status_of(const Slot& slot, std::int32_t rank, std::uint64_t now) {
  RankStatus status;
  status.rank = rank;
  status.process = slot.process;
  status.silent = seconds_between(slot.beat, now);
  status.waited = seconds_between(slot.since, now);
  status.step = slot.step;
  status.waiting_in = slot.waiting_in;
  const auto host = slot.host.load();
  const auto stage = slot.stage.load();
  const auto call = slot.call.load();
  std::ranges::copy(host, status.host.begin());
  std::ranges::copy(stage, status.stage.begin());
  std::ranges::copy(call, status.call.begin());
  for (std::size_t i = 0; i < kWatchedComms; ++i) {
    status.calls[i] = {slot.calls[i].comm.load(), slot.calls[i].count.load()};
  }
  return status;
}

}  // namespace impart::comm

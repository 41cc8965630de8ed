#include "impart/comm/watch.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "comm/board.hpp"
#include "comm/node_news.hpp"
#include "impart/comm/node_memory.hpp"
#include "impart/core/clock.hpp"
#include "impart/core/log.hpp"

namespace impart::comm {

namespace {

constexpr auto kPeriod = std::chrono::seconds(1);  // between two looks
constexpr double kFresh = 2.0;          // what a rank that has been silent for longer does may be old
constexpr double kSignOfLife = 5.0;     // a rank whose watchdog is silent for longer is stopped or dead
constexpr std::size_t kNamedRanks = 8;  // in a message

thread_local int nested = 0;  // a call may be made of others; the outermost counts

std::string where(const RankStatus& status) {
  if (status.stage[0] == '\0') return "before the first stage";
  const auto stage = fmt::format("stage {}", status.stage.data());
  return status.step < 0 ? stage : fmt::format("{}, step {}", stage, status.step);
}

std::string doing(const RankStatus& status) {
  if (status.silent > kSignOfLife)
    return fmt::format("no sign of life for {:.0f} s: stopped, dead, or cut off", status.silent);
  const bool waits = status.waiting_in != 0;
  const auto call = waits ? fmt::format(" in '{}'", status.call.data()) : "";
  if (status.silent <= kFresh) return fmt::format("{}{}", waits ? "waits" : "works", call);
  return fmt::format("last seen {:.0f} s ago, when it {}{}", status.silent, waits ? "waited" : "worked",
                     call);
}

std::string describe(const RankStatus& status) {
  return fmt::format("rank {} (pid {} on {}; {}; {})", status.rank, status.process, status.host.data(),
                     where(status), doing(status));
}

void sign(Slot& slot) {
  std::array<char, 64> host{};
  gethostname(host.data(), host.size() - 1);
  slot.host.store(host.data());
  slot.process = getpid();
}

/// Whether `waiting` waits for it. What a rank that does not live has said may be old.
bool is_late(const RankStatus& status, const RankStatus& waiting) {
  const auto arrived = status.calls_on(waiting.waiting_in);
  return arrived && *arrived < *waiting.calls_on(waiting.waiting_in);
}

std::string list(const std::vector<std::string>& ranks) {
  if (ranks.empty()) return "nobody: all ranks have arrived, and the messages do not";
  std::string text;
  for (std::size_t i = 0; i < std::min(ranks.size(), kNamedRanks); ++i)
    text += (i == 0 ? "" : ", ") + ranks[i];
  if (ranks.size() > kNamedRanks) text += fmt::format(" and {} more", ranks.size() - kNamedRanks);
  return text;
}

}  // namespace

void enter_stage(std::string_view name) {
  my_slot().stage.store(name);
  my_slot().step = -1;
}

void enter_step(std::int64_t step) { my_slot().step.store(step, std::memory_order_relaxed); }

Waiting::Waiting(const Comm& comm, const char* call) : span_(call), active_(comm.size() > 1) {
  if (!active_ || nested++ > 0) return;
  auto& slot = my_slot();
  slot.call.store(call);
  slot.since.store(now_ns(), std::memory_order_relaxed);
  for (auto& calls : slot.calls) {
    if (calls.comm.load(std::memory_order_relaxed) != comm.id()) continue;
    calls.count.fetch_add(1, std::memory_order_relaxed);
    slot.waiting_in.store(comm.id(), std::memory_order_release);
  }
}

Waiting::~Waiting() {
  if (active_ && --nested == 0) my_slot().waiting_in.store(0, std::memory_order_release);
}

struct Watchdog::Impl {
  Impl(const Comm& world, const Comm& node, StallLimits limits)
      : rank_on_node(node.rank()),
        ranks(node.gather_all<std::int32_t>(world.rank(), "watchdog")),
        board(node, sizeof(Slot)),
        news(world, node),
        warning(limits.warning),
        abort(limits.abort) {
    auto& mine = slot(rank_on_node);
    new (&mine) Slot;
    move_my_slot(&mine);
    sign(mine);
    node.barrier();  // nobody looks at a slot that is not there yet
    news.meet(statuses());
    thread = std::thread([this] { watch(); });
  }

  ~Impl() {
    {
      const std::scoped_lock lock(mutex);
      ended = true;
    }
    wake.notify_one();
    thread.join();
    move_my_slot(nullptr);
  }

  [[nodiscard]] Slot& slot(int i) const { return *reinterpret_cast<Slot*>(board.of(i).data()); }

  /// Of this node's ranks, now.
  [[nodiscard]] std::vector<RankStatus> statuses() const {
    std::vector<RankStatus> here;
    const auto now = now_ns();
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      here.push_back(status_of(slot(static_cast<int>(i)), ranks[i], now));
    }
    return here;
  }

  void watch() {
    std::unique_lock lock(mutex);
    auto last = Clock::now();
    while (!wake.wait_for(lock, kPeriod, [&] { return ended; })) {
      // After a sleep of its own, this rank waits only until its other threads are awake, too.
      const bool slept = seconds_since(std::exchange(last, Clock::now())) > kFresh;
      slot(rank_on_node).beat.store(now_ns(), std::memory_order_relaxed);
      const auto here = statuses();
      const auto elsewhere = news.exchange(here);
      if (!slept && speaks_for_node(here)) judge(here, elsewhere);
    }
  }

  /// The lowest rank of the node that lives.
  [[nodiscard]] bool speaks_for_node(const std::vector<RankStatus>& here) const {
    const auto first =
        std::ranges::find_if(here, [](const RankStatus& p) { return p.silent <= kSignOfLife; });
    return first != here.end() && first - here.begin() == rank_on_node;
  }

  /// Of all living ranks that wait in one call, the lowest is spoken for, by its node.
  void judge(const std::vector<RankStatus>& here, const std::vector<RankStatus>& elsewhere) {
    auto all = here;
    all.insert(all.end(), elsewhere.begin(), elsewhere.end());
    std::ranges::sort(all, {}, &RankStatus::rank);
    std::map<std::uint64_t, double> waits;
    for (auto& status : all) {
      if (status.waiting_in == 0 || status.silent > kSignOfLife || waits.contains(status.waiting_in))
        continue;
      status.waited = std::min(status.waited, standstill(status, all));
      waits[status.waiting_in] = status.waited;
      const bool mine = std::ranges::find(here, status.rank, &RankStatus::rank) != here.end();
      if (mine) report_if_due(status, all);
    }
    std::erase_if(moved, [&](const auto& entry) { return !waits.contains(entry.first); });
    std::erase_if(reported, [&](const auto& entry) {
      const auto found = waits.find(entry.first);
      return found == waits.end() || found->second < entry.second;
    });
  }

  /// Seconds since somebody that `waiting` waits for has come a step on: who works on is no reason to speak.
  double standstill(const RankStatus& waiting, const std::vector<RankStatus>& all) {
    std::int64_t steps = 0;
    for (const auto& status : all) {
      if (is_late(status, waiting)) steps += status.step;
    }
    const auto now = now_ns();
    const auto began = now - static_cast<std::uint64_t>(waiting.waited * 1e9);
    auto [entry, is_new] = moved.try_emplace(waiting.waiting_in, Moved{steps, began});
    auto& last = entry->second;
    if (last.steps != steps) last = {steps, now};
    return static_cast<double>(now - last.when) * 1e-9;
  }

  void report_if_due(const RankStatus& waiting, const std::vector<RankStatus>& all) {
    const bool ends = abort > 0 && waiting.waited >= abort;
    const auto last = reported.find(waiting.waiting_in);
    const double due = last == reported.end() ? warning.load() : 2 * last->second;
    if (!ends && (warning <= 0 || waiting.waited < due)) return;
    reported[waiting.waiting_in] = waiting.waited;
    std::vector<std::string> missing;
    for (const auto& status : all) {
      if (is_late(status, waiting) || status.silent > kSignOfLife) missing.push_back(describe(status));
    }
    const auto text = fmt::format("rank {} ({}) has waited {:.0f} s in '{}' for {}", waiting.rank,
                                  where(waiting), waiting.waited, waiting.call.data(), list(missing));
    if (!ends) return log::warn(text);
    log::error(text + "; the job ends (stall_abort)");
    MPI_Abort(MPI_COMM_WORLD, 1);
  }

  int rank_on_node;
  std::vector<std::int32_t> ranks;  // of the world, on this node
  NodeMemory board;                 // a slot of each
  NodeNews news;
  std::atomic<double> warning;
  std::atomic<double> abort;
  /// What those who are waited for had done, when it was last something else.
  struct Moved {
    std::int64_t steps = 0;
    std::uint64_t when = 0;
  };
  std::map<std::uint64_t, Moved> moved;      // of each call that is waited in
  std::map<std::uint64_t, double> reported;  // how long the wait in a call was when it was last reported
  std::mutex mutex;
  std::condition_variable wake;
  bool ended = false;
  std::thread thread;
};

Watchdog::Watchdog(const Comm& world, const Comm& node, StallLimits limits) {
  check_node_room(world, node, sizeof(Slot));
  impl_ = std::make_unique<Impl>(world, node, limits);
}

Watchdog::~Watchdog() = default;

void Watchdog::set_limits(StallLimits limits) {
  impl_->warning = limits.warning;
  impl_->abort = limits.abort;
}

}  // namespace impart::comm

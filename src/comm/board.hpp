// What a rank reports of itself in memory that its node shares: atomics, for a stopped process holds no lock.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace impart::comm {

/// A short text that one process writes while others read. A reader may see a mixture of two texts, no more.
class SharedText {
 public:
  void store(std::string_view text) noexcept {
    std::array<std::uint64_t, kWords> words{};
    std::memcpy(words.data(), text.data(), std::min(text.size(), sizeof(words) - 1));
    for (std::size_t i = 0; i < kWords; ++i) words_[i].store(words[i], std::memory_order_relaxed);
  }
  [[nodiscard]] std::string load() const {
    std::array<std::uint64_t, kWords> words{};
    for (std::size_t i = 0; i < kWords; ++i) words[i] = words_[i].load(std::memory_order_relaxed);
    std::array<char, sizeof(words) + 1> text{};
    std::memcpy(text.data(), words.data(), sizeof(words));
    return text.data();
  }

 private:
  static constexpr std::size_t kWords = 6;
  std::array<std::atomic<std::uint64_t>, kWords> words_{};
};

constexpr std::size_t kWatchedComms = 16;  // of one rank at a time; more are not watched

/// One rank's place on the board. Its owner writes, all ranks of the node read.
struct Slot {
  struct Calls {
    std::atomic<std::uint64_t> comm{0};   // Comm::id
    std::atomic<std::uint64_t> count{0};  // how many calls on it have begun
  };

  std::atomic<std::uint64_t> beat{0};  // nanoseconds of a clock that the node shares
  std::atomic<std::int32_t> process{0};
  SharedText host;
  std::atomic<std::int64_t> step{-1};
  SharedText stage;
  std::atomic<std::uint64_t> waiting_in{0};  // Comm::id; 0: nowhere
  std::atomic<std::uint64_t> since{0};       // nanoseconds
  SharedText call;
  std::array<Calls, kWatchedComms> calls;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "lies in memory that processes share");

/// This process's place: its own memory until a Watchdog gives it a place on the node's board. What is there
/// moves along.
Slot& my_slot() noexcept;
void move_my_slot(Slot* to) noexcept;  // null: back to own memory

/// From now on calls on this communicator are counted, where there is room; and no longer.
void count_calls_on(std::uint64_t comm) noexcept;
void forget_calls_on(std::uint64_t comm) noexcept;

/// Nanoseconds of the clock that all processes of a node share.
inline std::uint64_t now_ns() noexcept {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                        std::chrono::steady_clock::now().time_since_epoch())
                                        .count());
}

/// A slot at one moment, as it also travels to other nodes.
struct RankStatus {
  struct Calls {
    std::uint64_t comm = 0;
    std::uint64_t count = 0;
  };
  std::int32_t rank = 0;
  std::int32_t process = 0;  ///< its id on `host`
  double silent = 0;         ///< seconds since its watchdog's last sign
  double waited = 0;         ///< seconds, when `waiting_in` is not 0
  std::int64_t step = -1;
  std::uint64_t waiting_in = 0;  ///< Comm::id
  std::array<char, 48> host{};
  std::array<char, 48> stage{};
  std::array<char, 48> call{};
  std::array<Calls, kWatchedComms> calls{};

  /// How many calls on `comm` it has begun; nothing when it does not belong to it.
  [[nodiscard]] std::optional<std::uint64_t> calls_on(std::uint64_t comm) const;
};

RankStatus status_of(const Slot& slot, std::int32_t rank, std::uint64_t now);

}  // namespace impart::comm

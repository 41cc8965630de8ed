#include "impart/core/trace.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <mutex>
#include <vector>

#include "impart/core/clock.hpp"

namespace impart::trace {

namespace {

constexpr std::int64_t kShortest = 2;  // microseconds

struct Event {
  std::string name;
  std::int64_t step = 0;  // negative: none
  int thread = 0;
  std::int64_t begin = 0;  // microseconds
  std::int64_t end = 0;
};

struct Record {
  std::mutex mutex;
  std::vector<Event> events;
  std::size_t limit = 0;
  std::size_t lost = 0;
  Clock::time_point start;
};

Record& record() {
  static Record instance;
  return instance;
}

std::atomic<bool> on{false};
std::atomic<int> threads{0};

int this_thread() {
  thread_local const int number = threads++;
  return number;
}

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - record().start).count();
}

// A span's name may be a text of the caller's: of agree, it holds file names.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out;
}

}  // namespace

void start(std::size_t limit) {
  auto& all = record();
  const std::scoped_lock lock(all.mutex);
  all.events.clear();
  all.limit = limit;
  all.lost = 0;
  all.start = Clock::now();
  on = true;
}

bool is_on() noexcept { return on.load(std::memory_order_relaxed); }

std::string take_events(int rank) {
  on = false;
  auto& all = record();
  const std::scoped_lock lock(all.mutex);
  auto name = fmt::format("rank {}", rank);
  if (all.lost > 0) name += fmt::format(" ({} later spans left out)", all.lost);
  auto text =
      fmt::format(R"({{"name":"process_name","ph":"M","pid":{},"args":{{"name":"{}"}}}})", rank, name);
  for (const auto& event : all.events) {
    const auto args = event.step < 0 ? "" : fmt::format(R"(,"args":{{"step":{}}})", event.step);
    fmt::format_to(std::back_inserter(text),
                   ",\n"
                   R"({{"name":"{}","ph":"X","pid":{},"tid":{},"ts":{},"dur":{}{}}})",
                   escaped(event.name), rank, event.thread, event.begin, event.end - event.begin, args);
  }
  all.events.clear();
  return text;
}

Span::Span(const char* name, std::int64_t step) noexcept : name_(is_on() ? name : nullptr), step_(step) {
  if (name_ != nullptr) begin_ = now();
}

Span::~Span() {
  if (name_ == nullptr) return;
  auto& all = record();
  const auto end = now();
  if (end - begin_ < kShortest) return;
  const std::scoped_lock lock(all.mutex);
  if (!is_on()) return;
  if (all.events.size() < all.limit) {
    all.events.push_back({name_, step_, this_thread(), begin_, end});
  } else {
    ++all.lost;
  }
}

}  // namespace impart::trace

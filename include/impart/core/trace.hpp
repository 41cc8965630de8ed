// Trace: what each thread of a rank does when, for a picture of all ranks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace impart::trace {

/// From now on spans are recorded, until so many are (of all threads together); times count from this moment.
/// Call it on all ranks at about the same time: after a barrier.
void start(std::size_t limit = std::size_t{1} << 20);
[[nodiscard]] bool is_on() noexcept;

/// What this process has recorded, as events of Chrome's trace format ("Trace Event Format", complete events,
/// microseconds), joined by commas: `rank` is the process of the picture. Recording ends.
std::string take_events(int rank);

/// Something that takes time: from construction to destruction. `name` outlives it. Spans of less than two
/// microseconds, which nobody could see, are not recorded. One load when nothing is recorded.
class Span {
 public:
  explicit Span(const char* name) noexcept : Span(name, kNoStep) {}
  /// Of a step: the picture tells its number.
  Span(const char* name, std::int64_t step) noexcept;
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;
  ~Span();

 private:
  static constexpr std::int64_t kNoStep = -1;

  const char* name_;  // null: not recorded
  std::int64_t step_;
  std::int64_t begin_ = 0;
};

}  // namespace impart::trace

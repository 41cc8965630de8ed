// Averages of the weights along a training run, which are often better than its last ones.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "impart/core/registry.hpp"
#include "impart/core/settings.hpp"
#include "impart/core/state_dict.hpp"

namespace impart::train {

/// When an average takes the weights in, and how much: pure functions of the step, so that to continue a run
/// takes no more than the average itself. Immutable. Buffers are averaged, too.
class Average {
 public:
  /// Which weights a run leaves, and measures.
  enum class Use : std::uint8_t {
    kNone,     ///< the trained ones
    kRunning,  ///< the average, which is measured along the run
    kFinal,    ///< the average, which gets its batch norms' statistics at the end, and is measured then
  };

  virtual ~Average() = default;

  [[nodiscard]] virtual std::string_view kind() const = 0;
  [[nodiscard]] virtual Use use() const = 0;
  /// The part of the way that the average moves after update `update` (from 0), in [0, 1]. 0: not at all.
  [[nodiscard]] virtual double after_update(std::int64_t /*update*/) const { return 0; }
  /// After so many `epochs` of `all`.
  [[nodiscard]] virtual double after_epoch(std::int64_t /*epochs*/, int /*all*/) const { return 0; }
  /// The learning rate of the steps of `epoch` (from 0) of `all`; 0: as scheduled.
  [[nodiscard]] virtual double learning_rate(std::int64_t /*epoch*/, int /*all*/) const { return 0; }
  /// True when some epochs have a learning rate of their own, which is a multiple of the optimizer's.
  [[nodiscard]] virtual bool has_learning_rate() const { return false; }
};

using AveragePtr = std::shared_ptr<const Average>;

/// none, ema, swa.
const Registry<AveragePtr>& averages();
inline constexpr std::string_view kDefaultAverage = "none";
/// The one that a table { kind, ... } says; none without a kind. Throws Error (usage).
AveragePtr make_average(const SettingTable& table = {});

/// An average at work, of a run of so many epochs.
class WeightAverage {
 public:
  WeightAverage(AveragePtr average, int epochs) : average_(std::move(average)), epochs_(epochs) {}

  void after_update(const StateDict& state, std::int64_t update) {
    move(state, average_->after_update(update));
  }
  void after_epoch(const StateDict& state, std::int64_t epochs) {
    move(state, average_->after_epoch(epochs, epochs_));
  }

  /// The average: empty until there is one.
  [[nodiscard]] const StateDict& state() const noexcept { return state_; }
  void restore(StateDict state) { state_ = std::move(state); }

 private:
  /// Moves the average towards `state` by this part of the way; the first time all of it.
  void move(const StateDict& state, double part);

  AveragePtr average_;
  int epochs_;
  StateDict state_;
};

}  // namespace impart::train

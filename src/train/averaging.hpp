// Averages of the weights along a training run.
#pragma once

#include <cstdint>

#include "impart/core/state_dict.hpp"
#include "impart/train/trainer.hpp"

namespace impart::train {

/// The average of one run. When it takes what is a pure function of the step, so that to continue a run takes
/// no more than the average itself.
class WeightAverage {
 public:
  WeightAverage(const AverageOptions& options, int epochs);

  /// After update `update` (from 0).
  void after_update(const StateDict& state, std::int64_t update);
  /// After so many epochs.
  void after_epoch(const StateDict& state, std::int64_t epochs);
  /// True when steps of the epoch (from 0) have the rate of AverageOptions.
  [[nodiscard]] bool has_own_rate(std::int64_t epoch) const;

  /// The average: empty until there is one.
  [[nodiscard]] const StateDict& state() const noexcept { return average_; }
  void restore(StateDict average) { average_ = std::move(average); }

 private:
  /// Moves the average towards `state` by this part of the way.
  void move(const StateDict& state, double part);

  AverageOptions options_;
  std::int64_t first_epoch_;  // kSwa: before which nothing is averaged
  StateDict average_;
};

}  // namespace impart::train

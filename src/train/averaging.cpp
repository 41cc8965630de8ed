#include "train/averaging.hpp"

#include <algorithm>
#include <cmath>

namespace impart::train {

WeightAverage::WeightAverage(const AverageOptions& options, int epochs)
    : options_(options), first_epoch_(static_cast<std::int64_t>(std::floor(options.start * epochs))) {}

void WeightAverage::after_update(const StateDict& state, std::int64_t update) {
  if (options_.kind != AverageKind::kEma) return;
  // A short run would never leave its first weights behind at the full decay.
  const auto t = static_cast<double>(update);
  move(state, average_.empty() ? 1 : 1 - std::min(options_.decay, (1 + t) / (10 + t)));
}

void WeightAverage::after_epoch(const StateDict& state, std::int64_t epochs) {
  if (options_.kind != AverageKind::kSwa || epochs <= first_epoch_) return;
  move(state, 1 / static_cast<double>(epochs - first_epoch_));
}

bool WeightAverage::has_own_rate(std::int64_t epoch) const {
  return options_.kind == AverageKind::kSwa && options_.learning_rate > 0 && epoch >= first_epoch_;
}

void WeightAverage::move(const StateDict& state, double part) {
  if (average_.empty()) average_ = StateDict(state.layout_ptr());
  const auto to = average_.arena();
  const auto from = state.arena();
  const auto step = static_cast<float>(part);
  if (step == 1) {
    std::copy(from.begin(), from.end(), to.begin());
    return;
  }
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += step * (from[i] - to[i]);
}

}  // namespace impart::train

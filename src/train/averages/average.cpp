#include "impart/train/average.hpp"

#include <algorithm>

#include "train/averages/averages.hpp"

namespace impart::train {

namespace {

class None final : public Average {
 public:
  [[nodiscard]] std::string_view kind() const override { return "none"; }
  [[nodiscard]] Use use() const override { return Use::kNone; }
};

AveragePtr make_none(Settings&) { return std::make_shared<None>(); }

constexpr Registry<AveragePtr>::Entry kAverages[] = {
    {"none", "the weights as they are trained", make_none},
    {"ema", "a moving average, after each update; it is what is measured and kept", make_ema},
    {"swa", "the mean of the weights after the last epochs (Izmailov et al. 2018), kept at the end",
     make_swa},
};

}  // namespace

const Registry<AveragePtr>& averages() {
  static const Registry<AveragePtr> registry("average", kAverages);
  return registry;
}

AveragePtr make_average(const SettingTable& table) {
  return read_settings(table, "average",
                       [](Settings& settings) { return averages().make(settings, kDefaultAverage); });
}

void WeightAverage::move(const StateDict& state, double part) {
  if (part == 0) return;
  const auto step = state_.empty() ? 1.0F : static_cast<float>(part);
  if (state_.empty()) state_ = StateDict(state.layout_ptr());
  const auto to = state_.arena();
  const auto from = state.arena();
  if (step == 1) {
    std::copy(from.begin(), from.end(), to.begin());
    return;
  }
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += step * (from[i] - to[i]);
}

}  // namespace impart::train

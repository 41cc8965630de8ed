// plateau: as PyTorch's ReduceLROnPlateau with a relative threshold.

#include <algorithm>

#include "train/schedules/schedules.hpp"

namespace impart::train {

namespace {

class Plateau final : public Schedule {
 public:
  explicit Plateau(Settings& settings) : Schedule(settings) {
    settings.read("factor", factor_, within(0, 1), "what the rate is multiplied with");
    settings.read("patience", patience_, at_least(0).in("epochs"),
                  "without an improvement after which the next one reduces the rate");
    settings.read("threshold", threshold_, below(0, 1),
                  "an improvement is by more than this part of the best value");
    settings.read("cooldown", cooldown_, at_least(0).in("epochs"),
                  "after a reduction in which none is counted");
    settings.read("min_factor", min_factor_, below(0, 1),
                  "the rate does not fall below this part of the full one");
  }
  [[nodiscard]] std::string_view kind() const override { return "plateau"; }
  [[nodiscard]] bool is_measured() const override { return true; }

  [[nodiscard]] double measured_factor(std::span<const double> values, bool lower_is_better) const override {
    if (values.empty()) return 1;
    double result = 1;
    double best = values.front();
    int without_gain = 0;
    int cooling = 0;
    for (const double value : values.subspan(1)) {
      const bool better = lower_is_better ? value < best * (1 - threshold_) : value > best * (1 + threshold_);
      without_gain = better ? 0 : without_gain + 1;
      if (better) best = value;
      if (cooling > 0) {
        --cooling;
        without_gain = 0;
      }
      if (without_gain > patience_) {
        result = std::max(result * factor_, min_factor_);
        cooling = cooldown_;
        without_gain = 0;
      }
    }
    return result;
  }

 private:
  [[nodiscard]] double after_warmup(const Place&) const override { return 1; }

  double factor_ = 0.1;
  int patience_ = 10;
  double threshold_ = 1e-4;
  int cooldown_ = 0;
  double min_factor_ = 0;
};

}  // namespace

SchedulePtr make_plateau(Settings& settings) { return std::make_shared<Plateau>(settings); }

}  // namespace impart::train

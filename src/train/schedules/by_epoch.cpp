// Schedules that stay, or go down by steps: constant, step, multi_step.

#include <algorithm>
#include <cmath>
#include <vector>

#include "train/schedules/schedules.hpp"

namespace impart::train {

namespace {

class Constant final : public Schedule {
 public:
  explicit Constant(Settings& settings) : Schedule(settings) {}
  [[nodiscard]] std::string_view kind() const override { return "constant"; }

 private:
  [[nodiscard]] double after_warmup(const Place&) const override { return 1; }
};

double read_gamma(Settings& settings) {
  double gamma = 0.1;
  settings.read("gamma", gamma, above_up_to(0, 1), "what the rate is multiplied with");
  return gamma;
}

class Step final : public Schedule {
 public:
  explicit Step(Settings& settings) : Schedule(settings) {
    settings.read("step_epochs", step_epochs_, above(0).in("epochs"),
                  "after each of which the rate goes down");
    gamma_ = read_gamma(settings);
  }
  [[nodiscard]] std::string_view kind() const override { return "step"; }

 private:
  [[nodiscard]] double after_warmup(const Place& place) const override {
    return std::pow(gamma_, std::floor(place.epoch / step_epochs_));
  }

  double step_epochs_ = 1;
  double gamma_ = 0.1;
};

class MultiStep final : public Schedule {
 public:
  explicit MultiStep(Settings& settings) : Schedule(settings) {
    settings.require("milestones", milestones_, above(0).in("epochs"),
                     "after which the rate goes down, rising");
    if (!std::ranges::is_sorted(milestones_)) settings.problem("milestones", "expected rising epochs");
    gamma_ = read_gamma(settings);
  }
  [[nodiscard]] std::string_view kind() const override { return "multi_step"; }

 private:
  [[nodiscard]] double after_warmup(const Place& place) const override {
    const auto passed = std::ranges::upper_bound(milestones_, place.epoch);
    return std::pow(gamma_, static_cast<double>(passed - milestones_.begin()));
  }

  std::vector<double> milestones_;
  double gamma_ = 0.1;
};

}  // namespace

SchedulePtr make_constant(Settings& settings) { return std::make_shared<Constant>(settings); }
SchedulePtr make_step(Settings& settings) { return std::make_shared<Step>(settings); }
SchedulePtr make_multi_step(Settings& settings) { return std::make_shared<MultiStep>(settings); }

}  // namespace impart::train

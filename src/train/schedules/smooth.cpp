// Schedules along a curve: cosine, polynomial, one_cycle.

#include <algorithm>
#include <cmath>

#include "train/schedules/schedules.hpp"

namespace impart::train {

namespace {

double read_final_factor(Settings& settings) {
  double factor = 0;
  settings.read("final_factor", factor, between(0, 1), "the part of the rate that is left at the end");
  return factor;
}

/// Loshchilov and Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", eq. 5, without restarts.
class Cosine final : public Schedule {
 public:
  explicit Cosine(Settings& settings) : Schedule(settings), final_factor_(read_final_factor(settings)) {}
  [[nodiscard]] std::string_view kind() const override { return "cosine"; }

 private:
  [[nodiscard]] double after_warmup(const Place& place) const override {
    return along_cosine(1, final_factor_, place.done);
  }

  double final_factor_;
};

class Polynomial final : public Schedule {
 public:
  explicit Polynomial(Settings& settings) : Schedule(settings) {
    settings.read("power", power_, above(0), "of the part of the steps that is left");
    final_factor_ = read_final_factor(settings);
  }
  [[nodiscard]] std::string_view kind() const override { return "polynomial"; }

 private:
  [[nodiscard]] double after_warmup(const Place& place) const override {
    return final_factor_ + (1 - final_factor_) * std::pow(1 - place.done, power_);
  }

  double power_ = 1;
  double final_factor_ = 0;
};

/// Smith and Topin 2019, "Super-convergence: very fast training of neural networks using large learning rates",
/// as PyTorch's OneCycleLR with cosines: the learning rate is the highest.
class OneCycle final : public Schedule {
 public:
  explicit OneCycle(Settings& settings) : Schedule(settings) {
    settings.read("pct_start", pct_start_, within(0, 1), "part of the steps in which the rate rises");
    settings.read("div_factor", div_factor_, at_least(1), "the first rate is the highest divided by this");
    settings.read("final_div_factor", final_div_factor_, at_least(1),
                  "the last rate is the first divided by this");
  }
  [[nodiscard]] std::string_view kind() const override { return "one_cycle"; }

 private:
  [[nodiscard]] double after_warmup(const Place& place) const override {
    const double top = std::max(pct_start_ * place.length - 1, 0.0);
    const double last = std::max(place.length - 1, top + 1);
    const double first = 1 / div_factor_;
    if (place.step < top) return along_cosine(first, 1, place.step / top);
    return along_cosine(1, first / final_div_factor_, std::min(1.0, (place.step - top) / (last - top)));
  }

  double pct_start_ = 0.3;
  double div_factor_ = 25;
  double final_div_factor_ = 1e4;
};

}  // namespace

SchedulePtr make_cosine(Settings& settings) { return std::make_shared<Cosine>(settings); }
SchedulePtr make_polynomial(Settings& settings) { return std::make_shared<Polynomial>(settings); }
SchedulePtr make_one_cycle(Settings& settings) { return std::make_shared<OneCycle>(settings); }

}  // namespace impart::train

// Learning-rate schedules: pure functions of the step, or of what was measured, so that a continued run needs
// no memory of them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "impart/core/registry.hpp"
#include "impart/core/settings.hpp"

namespace impart::train {

/// What the base learning rate is multiplied with. Immutable.
class Schedule {
 public:
  virtual ~Schedule() = default;
  Schedule(const Schedule&) = delete;
  Schedule& operator=(const Schedule&) = delete;

  [[nodiscard]] virtual std::string_view kind() const = 0;
  /// In update `step` (from 0): linear from 0 to 1 in the warm-up, which all kinds can have, then as the kind
  /// says.
  [[nodiscard]] double factor(std::int64_t step, std::int64_t steps_per_epoch,
                              std::int64_t total_steps) const;
  /// True when it follows the monitored metric, which then must be measured each epoch.
  [[nodiscard]] virtual bool is_measured() const { return false; }
  /// What is multiplied, too, after epochs that ended with `values` of the monitored metric.
  [[nodiscard]] virtual double measured_factor(std::span<const double> /*values*/,
                                               bool /*lower_is_better*/) const {
    return 1;
  }

 protected:
  /// Reads `warmup_epochs`. A kind reads its own settings in its constructor.
  explicit Schedule(Settings& settings);

  /// Where a step is, after the warm-up.
  struct Place {
    double epoch = 0;   ///< since the beginning of the run: its part that is done counts, too
    double step = 0;    ///< since the warm-up
    double length = 1;  ///< steps from there to the end, at least 1
    double done = 0;    ///< the part of them that is done, in [0, 1]
  };

 private:
  [[nodiscard]] virtual double after_warmup(const Place& place) const = 0;

  double warmup_epochs_ = 0;
};

using SchedulePtr = std::shared_ptr<const Schedule>;

/// constant, step, multi_step, cosine, polynomial, one_cycle, plateau.
const Registry<SchedulePtr>& schedules();
inline constexpr std::string_view kDefaultSchedule = "constant";
/// The one that a table { kind, ... } says; constant without a kind. Throws Error (usage).
SchedulePtr make_schedule(const SettingTable& table = {});

}  // namespace impart::train

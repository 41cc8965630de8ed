// swa: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization", algorithm 1
// with a cycle of one epoch.

#include <cmath>
#include <optional>

#include "train/averages/averages.hpp"

namespace impart::train {

namespace {

class Swa final : public Average {
 public:
  explicit Swa(Settings& settings) {
    settings.read("start", start_, below(0, 1), "the part of the epochs after which averaging starts");
    settings.read("learning_rate", learning_rate_, above(0), "as scheduled", "constant from there on");
  }

  [[nodiscard]] std::string_view kind() const override { return "swa"; }
  [[nodiscard]] Use use() const override { return Use::kFinal; }
  [[nodiscard]] double after_epoch(std::int64_t epochs, int all) const override {
    const auto first = first_epoch(all);
    return epochs > first ? 1 / static_cast<double>(epochs - first) : 0;
  }
  [[nodiscard]] double learning_rate(std::int64_t epoch, int all) const override {
    return learning_rate_ && epoch >= first_epoch(all) ? *learning_rate_ : 0;
  }
  [[nodiscard]] bool has_learning_rate() const override { return learning_rate_.has_value(); }

 private:
  /// Before which nothing is averaged.
  [[nodiscard]] std::int64_t first_epoch(int all) const {
    return static_cast<std::int64_t>(std::floor(start_ * all));
  }

  double start_ = 0.75;
  std::optional<double> learning_rate_;
};

}  // namespace

AveragePtr make_swa(Settings& settings) { return std::make_shared<Swa>(settings); }

}  // namespace impart::train

// ema: an exponential moving average of the weights (Polyak and Juditsky 1992 average them all alike).

#include <algorithm>

#include "train/averages/averages.hpp"

namespace impart::train {

namespace {

class Ema final : public Average {
 public:
  explicit Ema(Settings& settings) {
    settings.read(
        "decay", decay_, below(0, 1),
        "what is left of the average at each update; less in the first, (1 + t) / (10 + t) in update t");
  }

  [[nodiscard]] std::string_view kind() const override { return "ema"; }
  [[nodiscard]] Use use() const override { return Use::kRunning; }
  [[nodiscard]] double after_update(std::int64_t update) const override {
    // A short run would never leave its first weights behind at the full decay.
    const auto t = static_cast<double>(update);
    return 1 - std::min(decay_, (1 + t) / (10 + t));
  }

 private:
  double decay_ = 0.999;
};

}  // namespace

AveragePtr make_ema(Settings& settings) { return std::make_shared<Ema>(settings); }

}  // namespace impart::train

// Losses that are means over the classes, each of which is a problem of its own: output z, target t.

#include <cmath>
#include <string_view>
#include <utility>

#include "nn/objectives/objectives.hpp"
#include "nn/objectives/row_objective.hpp"

namespace impart::nn {

namespace {

/// What a loss of one class is called, and whether its slope changes without a jump.
struct About {
  std::string_view kind;
  bool is_smooth = true;
};

/// The mean over the classes of `Loss`, a function of (output, target) that returns loss and slope. A NaN
/// stays one: no comparison may lose it.
template <class Loss>
class ClassMean final : public RowObjective {
 public:
  ClassMean(About about, Loss loss) : about_(about), loss_(loss) {}

  [[nodiscard]] std::string_view kind() const override { return about_.kind; }
  [[nodiscard]] bool is_smooth() const override { return about_.is_smooth; }

 private:
  [[nodiscard]] double row(std::span<const float> z, const RowTarget& target, double scale,
                           std::span<float> gradient) const override {
    const auto width = static_cast<double>(z.size());
    double sum = 0;
    for (std::size_t k = 0; k < z.size(); ++k) {
      const auto [loss, slope] = loss_(static_cast<double>(z[k]), target[k]);
      sum += loss;
      if (!gradient.empty()) gradient[k] = static_cast<float>(slope / width * scale);
    }
    return sum / width;
  }

  About about_;
  Loss loss_;
};

using LossSlope = std::pair<double, double>;

LossSlope squared_error(double z, double t) { return {(z - t) * (z - t), 2 * (z - t)}; }

LossSlope absolute_error(double z, double t) {
  return {std::abs(z - t), static_cast<double>(z > t) - static_cast<double>(z < t)};
}

LossSlope binary_cross_entropy(double z, double t) {
  const double e = std::exp(-std::abs(z));  // at most 1
  const double sigmoid = z >= 0 ? 1 / (1 + e) : e / (1 + e);
  return {(z < 0 ? 0 : z) - z * t + std::log1p(e), sigmoid - t};
}

LossSlope hinge(double z, double t) {
  const double below = 1 - z <= 0 ? 0 : 1 - z;
  const double above = 1 + z <= 0 ? 0 : 1 + z;
  return {t * below + (1 - t) * above, (above > 0 ? 1 - t : 0) - (below > 0 ? t : 0)};
}

struct Huber {
  double delta;
  LossSlope operator()(double z, double t) const {
    const double d = z - t;
    if (d > delta) return {delta * (d - delta / 2), delta};
    if (d < -delta) return {delta * (-d - delta / 2), -delta};
    return {d * d / 2, d};
  }
};

template <class Loss>
std::unique_ptr<Objective> class_mean(About about, Loss loss) {
  return std::make_unique<ClassMean<Loss>>(about, loss);
}

}  // namespace

std::unique_ptr<Objective> make_binary_cross_entropy(impart::Settings& /*settings*/) {
  return class_mean({"binary_cross_entropy"}, &binary_cross_entropy);
}

std::unique_ptr<Objective> make_mean_squared_error(impart::Settings& /*settings*/) {
  return class_mean({"mean_squared_error"}, &squared_error);
}

std::unique_ptr<Objective> make_l1(impart::Settings& /*settings*/) {
  return class_mean({"l1", false}, &absolute_error);
}

std::unique_ptr<Objective> make_huber(impart::Settings& settings) {
  double delta = 1;
  settings.read("delta", delta, above(0), "errors below it count squared, those above it by themselves");
  return class_mean({"huber"}, Huber{delta});
}

std::unique_ptr<Objective> make_hinge(impart::Settings& /*settings*/) {
  return class_mean({"hinge", false}, &hinge);
}

}  // namespace impart::nn

// Multiclass hinge: how far other classes' outputs come within a margin of the label's.

#include <algorithm>

#include "nn/objectives/objectives.hpp"
#include "nn/objectives/row_objective.hpp"

namespace impart::nn {

namespace {

/// Crammer and Singer 2001, as PyTorch's MultiMarginLoss.
class MulticlassHinge final : public RowObjective {
 public:
  MulticlassHinge(double margin, int power) : margin_(margin), squared_(power == 2) {}

  [[nodiscard]] std::string_view kind() const override { return "multiclass_hinge"; }
  [[nodiscard]] bool is_smooth() const override { return squared_; }

 private:
  [[nodiscard]] double row(std::span<const float> z, const RowTarget& target, double scale,
                           std::span<float> gradient) const override {
    std::fill(gradient.begin(), gradient.end(), 0.0F);
    double loss = against(z, target.label, target.share, scale, gradient);
    if (target.share < 1) loss += against(z, target.other, 1 - target.share, scale, gradient);
    return loss;
  }

  [[nodiscard]] double against(std::span<const float> z, std::size_t label, double share, double scale,
                               std::span<float> gradient) const {
    const double part = share / static_cast<double>(z.size());
    double loss = 0;
    double slopes = 0;
    for (std::size_t k = 0; k < z.size(); ++k) {
      const double short_by = margin_ - static_cast<double>(z[label]) + static_cast<double>(z[k]);
      if (k == label || short_by <= 0) continue;
      loss += squared_ ? short_by * short_by : short_by;
      const double slope = (squared_ ? 2 * short_by : 1.0) * part * scale;
      slopes += slope;
      if (!gradient.empty()) gradient[k] += static_cast<float>(slope);
    }
    if (!gradient.empty()) gradient[label] -= static_cast<float>(slopes);
    return loss * part;
  }

  double margin_;
  bool squared_;
};

}  // namespace

std::unique_ptr<Objective> make_multiclass_hinge(impart::Settings& settings) {
  double margin = 1;
  int power = 1;
  settings.read("margin", margin, above(0), "by how much the label's output should be above all others");
  settings.read("power", power, between(1, 2), "1: what is missing counts by itself, 2: squared");
  return std::make_unique<MulticlassHinge>(margin, power);
}

}  // namespace impart::nn

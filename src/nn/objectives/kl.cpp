// KL(t || softmax(z)) of a row: cross entropy less the target's entropy.

#include <algorithm>
#include <vector>

#include "nn/objectives/objectives.hpp"
#include "nn/objectives/row_objective.hpp"

namespace impart::nn {

namespace {

class Kl final : public RowObjective {
 public:
  explicit Kl(double smoothing) : smoothing_(smoothing) {}

  [[nodiscard]] std::string_view kind() const override { return "kl"; }

 private:
  [[nodiscard]] double row(std::span<const float> z, const RowTarget& target, double scale,
                           std::span<float> gradient) const override {
    std::vector<float> wanted(z.size());
    for (std::size_t k = 0; k < z.size(); ++k) {
      wanted[k] =
          static_cast<float>((1 - smoothing_) * target[k] + smoothing_ / static_cast<double>(z.size()));
    }
    std::fill(gradient.begin(), gradient.end(), 0.0F);
    return divergence(wanted, z, 1.0, scale, gradient);
  }

  double smoothing_;
};

}  // namespace

std::unique_ptr<Objective> make_kl(impart::Settings& settings) {
  double smoothing = 0;
  settings.read("label_smoothing", smoothing, below(0, 1),
                "the part of a target that is spread evenly over the classes");
  return std::make_unique<Kl>(smoothing);
}

}  // namespace impart::nn

// You, Gitman and Ginsburg 2017, "Large batch training of convolutional networks", algorithm 1: each tensor has
// a rate by the ratio of its length to its gradient's. Slot: velocity.

#include <cmath>

#include "train/optimizers/optimizers.hpp"
#include "train/vector_sums.hpp"

namespace impart::train {

namespace {

/// `rate`: global times local rate.
struct Loop {
  float rate, decay, momentum;

  void operator()(const Values& values) const {
    const auto [lr, wd, mu] = std::array{rate, decay, momentum};
    float* __restrict w = values.w;
    const float* __restrict g = values.g;
    float* __restrict velocity = values.slots[0];
    for (std::size_t i = 0; i < values.n; ++i) {
      const float v = mu * velocity[i] + lr * (g[i] + wd * w[i]);
      velocity[i] = v;
      w[i] -= v;
    }
  }
};

class Lars final : public OptimizerRule {
 public:
  explicit Lars(Settings& settings) : common_(settings, 0.01, 0), momentum_(read_momentum(settings, 0.9)) {
    settings.read("trust", trust_, above(0), "the length of a tensor's step, of the tensor's own");
  }

  [[nodiscard]] std::string_view kind() const override { return "lars"; }
  [[nodiscard]] double learning_rate() const override { return common_.learning_rate; }
  [[nodiscard]] std::vector<std::string> slot_names() const override { return {"momentum"}; }

  void update(const OptimizerStep& step) const override {
    using Piece = TrainedParameters::Piece;
    const auto weights = step.parameters.sums(
        [&](const Piece& piece) { return square_sum(step.state.arena().subspan(piece.begin, piece.size)); });
    const auto gradients = step.parameters.sums([&](const Piece& piece) {
      return square_sum(step.gradient.arena().subspan(piece.begin, piece.size));
    });
    step.parameters.for_pieces([&](const Piece& piece) {
      double rate = rate_of(step, piece);
      double decay = 0;
      if (is_adapted(step, piece)) {
        decay = common_.weight_decay;
        const double length = std::sqrt(weights[piece.parameter]);
        const double slope = std::sqrt(gradients[piece.parameter]);
        if (length > 0 && slope > 0) rate *= trust_ * length / (slope + decay * length);
      }
      const Loop loop{static_cast<float>(rate), static_cast<float>(decay), static_cast<float>(momentum_)};
      loop(values_of(step, piece));
    });
  }

 private:
  CommonSettings common_;
  double momentum_;
  double trust_ = 0.001;
};

}  // namespace

OptimizerRulePtr make_lars(Settings& settings) { return std::make_shared<Lars>(settings); }

}  // namespace impart::train

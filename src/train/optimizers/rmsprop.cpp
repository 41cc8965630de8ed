// Tieleman and Hinton 2012, "Lecture 6.5: RMSProp"; centred: Graves 2013, "Generating sequences with recurrent
// neural networks"; as torch.optim.RMSprop. Slots: mean square, then mean (if centred), then velocity (if there
// is momentum).

#include <cmath>

#include "train/optimizers/optimizers.hpp"

namespace impart::train {

namespace {

struct Numbers {
  float rate, decay, alpha, rest, momentum, epsilon;
};

template <bool kCentered, bool kMomentum>
void run(const Numbers r, const Values& values) {
  float* __restrict w = values.w;
  const float* __restrict g = values.g;
  float* __restrict square = values.slots[0];
  float* __restrict mean = values.slots[1];
  float* __restrict velocity = values.slots[kCentered ? 2 : 1];
  for (std::size_t i = 0; i < values.n; ++i) {
    const float d = g[i] + r.decay * w[i];
    float variance = r.alpha * square[i] + r.rest * d * d;
    square[i] = variance;
    if constexpr (kCentered) {
      const float m = r.alpha * mean[i] + r.rest * d;
      mean[i] = m;
      variance -= m * m;
      variance = variance < 0 ? 0 : variance;  // by rounding
    }
    float move = d / (std::sqrt(variance) + r.epsilon);
    if constexpr (kMomentum) {
      move += r.momentum * velocity[i];
      velocity[i] = move;
    }
    w[i] -= r.rate * move;
  }
}

class Rmsprop final : public OptimizerRule {
 public:
  explicit Rmsprop(Settings& settings) : common_(settings, 0.01, 0) {
    settings.read("alpha", alpha_, below(0, 1), "what is left of the mean square at each update");
    momentum_ = read_momentum(settings, 0);
    settings.read("centered", centered_, "divide by the deviation, not by the root of the mean square");
    epsilon_ = read_epsilon(settings, epsilon_);
  }

  [[nodiscard]] std::string_view kind() const override { return "rmsprop"; }
  [[nodiscard]] double learning_rate() const override { return common_.learning_rate; }
  [[nodiscard]] std::vector<std::string> slot_names() const override {
    std::vector<std::string> names{"square_avg"};
    if (centered_) names.emplace_back("grad_avg");
    if (momentum_ > 0) names.emplace_back("momentum");
    return names;
  }

  void update(const OptimizerStep& step) const override {
    const auto loop = centered_ ? (momentum_ > 0 ? run<true, true> : run<true, false>)
                                : (momentum_ > 0 ? run<false, true> : run<false, false>);
    step.parameters.for_pieces([&](const TrainedParameters::Piece& piece) {
      loop({static_cast<float>(rate_of(step, piece)), static_cast<float>(common_.weight_decay),
            static_cast<float>(alpha_), static_cast<float>(1 - alpha_), static_cast<float>(momentum_),
            static_cast<float>(epsilon_)},
           values_of(step, piece));
    });
  }

 private:
  CommonSettings common_;
  double alpha_ = 0.99;
  double momentum_ = 0;
  bool centered_ = false;
  double epsilon_ = 1e-8;
};

}  // namespace

OptimizerRulePtr make_rmsprop(Settings& settings) { return std::make_shared<Rmsprop>(settings); }

}  // namespace impart::train

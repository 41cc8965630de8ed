// Kingma and Ba 2015, "Adam: a method for stochastic optimization", algorithm 1, as torch.optim.Adam; with
// decoupled decay: Loshchilov and Hutter 2019, "Decoupled weight decay regularization", algorithm 2, as AdamW.
// Slots: means of gradients and of their squares.

#include <cmath>

#include "train/optimizers/optimizers.hpp"

namespace impart::train {

namespace {

/// `shrink` is the decoupled decay, 1 for none; `rate` and `root` hold the bias corrections.
struct Loop {
  float rate, decay, shrink, beta1, beta2, rest1, rest2, root, epsilon;

  void operator()(const Values& values) const {
    const Loop r = *this;
    float* __restrict w = values.w;
    const float* __restrict g = values.g;
    float* __restrict mean = values.slots[0];
    float* __restrict square = values.slots[1];
    for (std::size_t i = 0; i < values.n; ++i) {
      const float d = g[i] + r.decay * w[i];
      const float m = r.beta1 * mean[i] + r.rest1 * d;
      const float s = r.beta2 * square[i] + r.rest2 * d * d;
      mean[i] = m;
      square[i] = s;
      w[i] = r.shrink * w[i] - r.rate * m / (std::sqrt(s) * r.root + r.epsilon);
    }
  }
};

class Adam final : public OptimizerRule {
 public:
  Adam(Settings& settings, bool decoupled)
      : decoupled_(decoupled), common_(settings, 0.001, decoupled ? 0.01 : 0) {
    settings.read("beta1", beta1_, below(0, 1), "what is left of the mean gradient at each update");
    settings.read("beta2", beta2_, below(0, 1), "what is left of the mean square at each update");
    epsilon_ = read_epsilon(settings, epsilon_);
  }

  [[nodiscard]] std::string_view kind() const override { return decoupled_ ? "adamw" : "adam"; }
  [[nodiscard]] double learning_rate() const override { return common_.learning_rate; }
  [[nodiscard]] std::vector<std::string> slot_names() const override { return {"exp_avg", "exp_avg_sq"}; }

  void update(const OptimizerStep& step) const override {
    const auto single = [](double value) { return static_cast<float>(value); };
    const auto t = static_cast<double>(step.number + 1);
    const double correction = 1 - std::pow(beta1_, t);
    const double root = 1 / std::sqrt(1 - std::pow(beta2_, t));
    step.parameters.for_pieces([&](const TrainedParameters::Piece& piece) {
      const double rate = rate_of(step, piece);
      const Loop loop{single(rate / correction),
                      single(decoupled_ ? 0 : common_.weight_decay),
                      single(decoupled_ ? 1 - rate * common_.weight_decay : 1),
                      single(beta1_),
                      single(beta2_),
                      single(1 - beta1_),
                      single(1 - beta2_),
                      single(root),
                      single(epsilon_)};
      loop(values_of(step, piece));
    });
  }

 private:
  bool decoupled_;
  CommonSettings common_;
  double beta1_ = 0.9;
  double beta2_ = 0.999;
  double epsilon_ = 1e-8;
};

}  // namespace

OptimizerRulePtr make_adam(Settings& settings) { return std::make_shared<Adam>(settings, false); }
OptimizerRulePtr make_adamw(Settings& settings) { return std::make_shared<Adam>(settings, true); }

}  // namespace impart::train

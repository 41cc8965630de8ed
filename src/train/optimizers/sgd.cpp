// Stochastic gradient descent with momentum, as torch.optim.SGD; Nesterov's: Sutskever et al. 2013, "On the
// importance of initialization and momentum in deep learning". Slot: velocity, or none without momentum.

#include "train/optimizers/optimizers.hpp"

namespace impart::train {

namespace {

struct Loop {
  float rate, decay, momentum;
  bool nesterov;

  void operator()(const Values& values) const {
    const auto [lr, wd, mu, ahead, along] =
        std::array{rate, decay, momentum, nesterov ? 1.0F : 0.0F, nesterov ? momentum : 1.0F};
    float* __restrict w = values.w;
    const float* __restrict g = values.g;
    float* __restrict velocity = values.slots[0];
    if (velocity == nullptr) {
      for (std::size_t i = 0; i < values.n; ++i) w[i] -= lr * (g[i] + wd * w[i]);
      return;
    }
    for (std::size_t i = 0; i < values.n; ++i) {
      const float d = g[i] + wd * w[i];
      const float v = mu * velocity[i] + d;
      velocity[i] = v;
      w[i] -= lr * (ahead * d + along * v);
    }
  }
};

class Sgd final : public OptimizerRule {
 public:
  explicit Sgd(Settings& settings) : common_(settings, 0.01, 0), momentum_(read_momentum(settings, 0)) {
    settings.read("nesterov", nesterov_, "look ahead by the momentum");
    if (nesterov_ && momentum_ == 0) settings.problem("nesterov", "needs a momentum above 0");
  }

  [[nodiscard]] std::string_view kind() const override { return "sgd"; }
  [[nodiscard]] double learning_rate() const override { return common_.learning_rate; }
  [[nodiscard]] std::vector<std::string> slot_names() const override {
    return momentum_ > 0 ? std::vector<std::string>{"momentum"} : std::vector<std::string>{};
  }

  void update(const OptimizerStep& step) const override {
    step.parameters.for_pieces([&](const TrainedParameters::Piece& piece) {
      const Loop loop{static_cast<float>(rate_of(step, piece)), static_cast<float>(common_.weight_decay),
                      static_cast<float>(momentum_), nesterov_};
      loop(values_of(step, piece));
    });
  }

 private:
  CommonSettings common_;
  double momentum_;
  bool nesterov_ = false;
};

}  // namespace

OptimizerRulePtr make_sgd(Settings& settings) { return std::make_shared<Sgd>(settings); }

}  // namespace impart::train

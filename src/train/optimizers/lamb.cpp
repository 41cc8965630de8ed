// You et al. 2020, "Large batch optimization for deep learning: training BERT in 76 minutes", algorithm 2, in two
// passes, for the step's length is that of a whole tensor. Slots: means of gradients and of their squares.

#include <cmath>

#include "train/optimizers/optimizers.hpp"
#include "train/vector_sums.hpp"

namespace impart::train {

namespace {

struct Loops {
  float decay, beta1, beta2, rest1, rest2, correction1, root, epsilon;

  [[nodiscard]] float step(float w, float m, float s) const {
    return m * correction1 / (std::sqrt(s) * root + epsilon) + decay * w;
  }

  /// Brings the slots up to date, and returns the square of the length of this part of the step.
  [[nodiscard]] double prepare(const Values& values) const {
    const Loops r = *this;
    const float* __restrict w = values.w;
    const float* __restrict g = values.g;
    float* __restrict mean = values.slots[0];
    float* __restrict square = values.slots[1];
    // Partial sums, so that the order of summation is fixed and the loop has registers in flight.
    constexpr std::size_t kLanes = 16;
    std::array<double, kLanes> sums{};
    for (std::size_t from = 0; from < values.n; from += kLanes) {
      const std::size_t count = values.n - from < kLanes ? values.n - from : kLanes;
      for (std::size_t k = 0; k < count; ++k) {
        const std::size_t i = from + k;
        const float d = g[i];
        const float m = r.beta1 * mean[i] + r.rest1 * d;
        const float s = r.beta2 * square[i] + r.rest2 * d * d;
        mean[i] = m;
        square[i] = s;
        const auto length = static_cast<double>(r.step(w[i], m, s));
        sums[k] += length * length;
      }
    }
    double total = 0;
    for (const double sum : sums) total += sum;
    return total;
  }

  void apply(const Values& values, float rate) const {
    const Loops r = *this;
    float* __restrict w = values.w;
    const float* __restrict mean = values.slots[0];
    const float* __restrict square = values.slots[1];
    for (std::size_t i = 0; i < values.n; ++i) w[i] -= rate * r.step(w[i], mean[i], square[i]);
  }
};

class Lamb final : public OptimizerRule {
 public:
  explicit Lamb(Settings& settings) : common_(settings, 0.001, 0.01) {
    settings.read("beta1", beta1_, below(0, 1), "what is left of the mean gradient at each update");
    settings.read("beta2", beta2_, below(0, 1), "what is left of the mean square at each update");
    epsilon_ = read_epsilon(settings, epsilon_);
  }

  [[nodiscard]] std::string_view kind() const override { return "lamb"; }
  [[nodiscard]] double learning_rate() const override { return common_.learning_rate; }
  [[nodiscard]] std::vector<std::string> slot_names() const override { return {"exp_avg", "exp_avg_sq"}; }

  void update(const OptimizerStep& step) const override {
    using Piece = TrainedParameters::Piece;
    const auto t = static_cast<double>(step.number + 1);
    const auto loops_for = [&](const Piece& piece) {
      return Loops{static_cast<float>(is_adapted(step, piece) ? common_.weight_decay : 0),
                   static_cast<float>(beta1_),
                   static_cast<float>(beta2_),
                   static_cast<float>(1 - beta1_),
                   static_cast<float>(1 - beta2_),
                   static_cast<float>(1 / (1 - std::pow(beta1_, t))),
                   static_cast<float>(1 / std::sqrt(1 - std::pow(beta2_, t))),
                   static_cast<float>(epsilon_)};
    };
    const auto weights = step.parameters.sums(
        [&](const Piece& piece) { return square_sum(step.state.arena().subspan(piece.begin, piece.size)); });
    const auto steps = step.parameters.sums(
        [&](const Piece& piece) { return loops_for(piece).prepare(values_of(step, piece)); });
    step.parameters.for_pieces([&](const Piece& piece) {
      double rate = rate_of(step, piece);
      if (is_adapted(step, piece))
        rate *= trust_ratio(std::sqrt(weights[piece.parameter]), std::sqrt(steps[piece.parameter]));
      loops_for(piece).apply(values_of(step, piece), static_cast<float>(rate));
    });
  }

 private:
  /// How many times a step a tensor's rate is: its length by that of its step. 1 where that says nothing.
  static double trust_ratio(double weight, double step) { return weight > 0 && step > 0 ? weight / step : 1; }

  CommonSettings common_;
  double beta1_ = 0.9;
  double beta2_ = 0.999;
  double epsilon_ = 1e-6;
};

}  // namespace

OptimizerRulePtr make_lamb(Settings& settings) { return std::make_shared<Lamb>(settings); }

}  // namespace impart::train

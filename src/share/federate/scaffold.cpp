// SCAFFOLD: control variates against the drift of clients with unlike data. "SCAFFOLD: stochastic controlled
// averaging for federated learning" (Karimireddy et al. 2020, algorithm 1, option II).
//
// The server keeps c, each client c_i, all zero at first. Of N clients, |S| train in a round, each with K steps
// of plain SGD from the server's weights x to y_i, and with c - c_i added to every gradient. Then
//   c_i+ = c_i - c + (x - y_i) / (K eta),   x += eta_g / |S| sum (y_i - x),   c += 1 / N sum (c_i+ - c_i).
// With a learning rate that changes, K eta is the sum of the steps' rates: c_i+ is the mean of the client's
// gradients either way. Buffers have no gradient: they get the clients' mean, weighted by samples.
#include <memory>

#include "impart/data/batch_loader.hpp"
#include "impart/train/transform.hpp"
#include "share/combine/model_weights.hpp"
#include "share/federate/kinds.hpp"

namespace impart::share {

namespace {

/// Adds c - c_i to the gradient.
class ControlVariate final : public train::GradientTransform {
 public:
  ControlVariate(const StateDict& server, const StateDict& client) : correction_(server.clone()) {
    const auto to = correction_.arena();
    const auto own = client.arena();
    for (std::size_t i = 0; i < to.size(); ++i) to[i] -= own[i];
  }

  [[nodiscard]] std::string_view name() const override { return "control_variate"; }

  double apply(const train::GradientStep& step) const override {
    const auto gradient = step.gradient.arena();
    const auto correction = correction_.arena();  // parameters lie where they lie in a whole model
    step.parameters.for_pieces([&](const train::TrainedParameters::Piece& piece) {
      for (auto i = piece.begin; i < piece.begin + piece.size; ++i) gradient[i] += correction[i];
    });
    return 0;
  }

 private:
  StateDict correction_;
};

/// K eta of a client whose steps are all of `options`.
double sum_of_rates(const train::TrainerOptions& options, std::int64_t samples) {
  const auto steps = data::steps_per_epoch(samples, options.batch_size);
  const auto first = options.schedule_start * steps;
  double sum = 0;
  for (std::int64_t step = 0; step < steps * options.epochs; ++step) {
    sum += options.optimizer->learning_rate() *
           options.schedule->factor(first + step, steps, steps * options.schedule_epochs);
  }
  return sum;
}

class Scaffold final : public FederatedAlgorithm {
 public:
  explicit Scaffold(Settings& settings) {
    settings.read("server_learning_rate", server_rate_, above(0),
                  "times the mean of the clients' changes is added to the server's weights");
  }

  [[nodiscard]] train::Capabilities capabilities() const override {
    using enum train::Feature;
    return {.key = "algorithm",
            .uses = {{kTransforms, {"algorithm"}}},
            .refuses = {{kAccumulate, {"scaffold counts a step a batch"}},
                        {kLocalSteps, {"scaffold counts a step a batch"}},
                        {kAverage, {"scaffold needs the weights after a client's last step"}},
                        {kStatefulOptimizer, {"scaffold reckons with steps of plain SGD: no momentum"}}}};
  }
  [[nodiscard]] std::vector<std::string_view> server_slots() const override { return {"c"}; }
  [[nodiscard]] std::vector<std::string_view> client_slots() const override { return {"c"}; }
  [[nodiscard]] std::size_t sums() const override { return 2; }

  void prepare(const ServerState& server, ClientTraining& training) const override {
    // It is part of the gradient: before whatever clips or disturbs that.
    auto& transforms = training.options.transforms;
    transforms.insert(transforms.begin(),
                      std::make_shared<ControlVariate>(server.slots[0], training.slots[0]));
  }

  void collect(const ServerState& server, ClientTraining& training, const train::TrainResult& /*result*/,
               std::span<const std::span<double>> sums) const override {
    const auto x = std::as_const(server.weights).parameters();
    const auto y = std::as_const(training.weights).parameters();
    for (std::size_t i = 0; i < y.size(); ++i) {
      sums[0][i] += (static_cast<double>(y[i]) - static_cast<double>(x[i])) / training.round_clients;
    }
    add_weighted(sums[0].subspan(y.size()), std::as_const(training.weights).buffers(),
                 static_cast<double>(training.samples) / static_cast<double>(training.round_samples));

    const double rates = sum_of_rates(training.options, training.samples);
    for (const auto& entry : training.slots[0].layout().entries()) {
      const auto group = train::group_of(training.options.groups, entry.name);
      const double rate = rates * group.learning_rate_scale;
      if (group.frozen || !(rate > 0)) continue;  // it has made no step, which could tell of its gradient
      const auto c = std::as_const(server.slots[0]).values(entry);
      const auto own = training.slots[0].values(entry);
      for (std::size_t i = 0; i < own.size(); ++i) {
        const auto at = entry.offset + i;
        const double before = own[i];
        own[i] = static_cast<float>(before - static_cast<double>(c[i]) +
                                    (static_cast<double>(x[at]) - static_cast<double>(y[at])) / rate);
        sums[1][at] += (static_cast<double>(own[i]) - before) / training.clients;
      }
    }
  }

  void aggregate(ServerState server, std::span<const std::span<const double>> sums) const override {
    const auto x = server.weights.parameters();
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = static_cast<float>(static_cast<double>(x[i]) + server_rate_ * sums[0][i]);
    const auto buffers = server.weights.buffers();
    for (std::size_t i = 0; i < buffers.size(); ++i) buffers[i] = static_cast<float>(sums[0][x.size() + i]);
    const auto c = server.slots[0].arena();
    for (std::size_t i = 0; i < c.size(); ++i)
      c[i] = static_cast<float>(static_cast<double>(c[i]) + sums[1][i]);
  }

 private:
  double server_rate_ = 1;
};

}  // namespace

std::unique_ptr<FederatedAlgorithm> make_scaffold(Settings& settings) {
  return std::make_unique<Scaffold>(settings);
}

}  // namespace impart::share

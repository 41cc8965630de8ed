#include "share/federate/fedavg.hpp"

#include <algorithm>

#include "share/combine/model_weights.hpp"
#include "share/federate/kinds.hpp"

namespace impart::share {

void FedAvg::prepare(const ServerState& /*server*/, ClientTraining& /*training*/) const {}

void FedAvg::collect(const ServerState& /*server*/, ClientTraining& training,
                     const train::TrainResult& /*result*/, std::span<const std::span<double>> sums) const {
  add_weighted(sums[0], training.weights.arena(),
               static_cast<double>(training.samples) / static_cast<double>(training.round_samples));
}

void FedAvg::aggregate(ServerState server, std::span<const std::span<const double>> sums) const {
  std::ranges::transform(sums[0], server.weights.arena().begin(),
                         [](double x) { return static_cast<float>(x); });
}

std::unique_ptr<FederatedAlgorithm> make_fedavg(Settings& /*settings*/) { return std::make_unique<FedAvg>(); }

}  // namespace impart::share

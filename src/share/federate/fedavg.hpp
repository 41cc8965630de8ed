// FedAvg: the weighted mean of the clients' models. Other algorithms say what they do beside that.
#pragma once

#include "impart/share/federate/algorithm.hpp"

namespace impart::share {

/// "Communication-efficient learning of deep networks from decentralized data" (McMahan et al. 2017, algorithm
/// 1): each model, parameters and buffers, counts n_k / n. The client's optimizer starts afresh in each round.
class FedAvg : public FederatedAlgorithm {
 public:
  void prepare(const ServerState& server, ClientTraining& training) const override;
  void collect(const ServerState& server, ClientTraining& training, const train::TrainResult& result,
               std::span<const std::span<double>> sums) const override;
  void aggregate(ServerState server, std::span<const std::span<const double>> sums) const override;
};

}  // namespace impart::share

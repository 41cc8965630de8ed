#include "share/federate/kinds.hpp"

namespace impart::share {

namespace {

constexpr Registry<std::unique_ptr<FederatedAlgorithm>>::Entry kAlgorithms[] = {
    {"fedavg", "the mean of the clients' models, weighted by their samples", make_fedavg},
    {"fedprox", "fedavg whose clients stay near the server's weights (Li et al. 2020)", make_fedprox},
    {"scaffold", "control variates against the drift of unlike clients (Karimireddy et al. 2020)",
     make_scaffold},
};

}  // namespace

const Registry<std::unique_ptr<FederatedAlgorithm>>& federated_algorithms() {
  static const Registry<std::unique_ptr<FederatedAlgorithm>> registry("algorithm", kAlgorithms);
  return registry;
}

}  // namespace impart::share

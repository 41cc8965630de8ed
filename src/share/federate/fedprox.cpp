// FedProx: FedAvg whose clients stay near the server's weights. "Federated optimization in heterogeneous
// networks" (Li et al. 2020, eq. 2): a client minimises its loss + (mu / 2) ||w - w_t||^2, over all parameters.
#include "impart/train/transform.hpp"
#include "share/federate/fedavg.hpp"
#include "share/federate/kinds.hpp"

namespace impart::share {

namespace {

class FedProx final : public FedAvg {
 public:
  explicit FedProx(Settings& settings) {
    settings.read("proximal_mu", mu_, at_least(0),
                  "times half the squared distance from the server's weights is added to a client's loss");
  }

  [[nodiscard]] train::Capabilities capabilities() const override {
    return {.key = "algorithm", .uses = {{train::Feature::kTransforms, {"algorithm"}}}};
  }

  void prepare(const ServerState& /*server*/, ClientTraining& training) const override {
    // It is part of the loss: before whatever clips or disturbs the gradient. The run begins at w_t.
    auto& transforms = training.options.transforms;
    transforms.insert(transforms.begin(), train::make_proximal(mu_));
  }

 private:
  double mu_ = 0.1;
};

}  // namespace

std::unique_ptr<FederatedAlgorithm> make_fedprox(Settings& settings) {
  return std::make_unique<FedProx>(settings);
}

}  // namespace impart::share

// linear: the weighted mean of models. "Model soups" (Wortsman et al. 2022) are this with equal weights, and
// federated averaging (McMahan et al. 2017) with each client's part of the samples.
#include "share/combine/kinds.hpp"
#include "share/combine/model_weights.hpp"

namespace impart::share {

namespace {

class Linear final : public Combiner {
 public:
  explicit Linear(Settings& settings) { weights_.read(settings); }

  void begin(const StateLayout& /*layout*/, std::size_t models) override {
    weight_ = weights_.applied(models);
  }

  void combine(const TensorOfModels& tensor, std::span<float> result) const override {
    weighted_sum(tensor.models, weight_, result);
  }

 private:
  ModelWeights weights_;
  std::vector<double> weight_;
};

}  // namespace

std::unique_ptr<Combiner> make_linear(Settings& settings) { return std::make_unique<Linear>(settings); }

}  // namespace impart::share

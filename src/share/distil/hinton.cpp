// Soft targets of the teachers' outputs.

#include <utility>

#include "impart/share/distil.hpp"
#include "share/distil/distil_losses.hpp"

namespace impart::share {

namespace {

class Hinton final : public DistilLoss {
 public:
  explicit Hinton(DistilOptions options) : options_(options) {}

  [[nodiscard]] std::optional<double> table_temperature() const override { return options_.temperature; }
  [[nodiscard]] std::unique_ptr<nn::Objective> objective(DistilInputs inputs) const override {
    return make_distillation(*inputs.probabilities, options_, std::move(inputs.labels));
  }

 private:
  DistilOptions options_;
};

}  // namespace

std::unique_ptr<DistilLoss> make_hinton(Settings& settings) {
  DistilOptions options;
  settings.read("kd_weight", options.kd_weight, between(0, 1),
                "w: what the teachers count against the labels");
  settings.read("temperature", options.temperature, above(0), "T: softens both probabilities");
  return std::make_unique<Hinton>(options);
}

}  // namespace impart::share

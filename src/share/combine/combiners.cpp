#include "impart/core/error.hpp"
#include "share/combine/kinds.hpp"

namespace impart::share {

namespace {

constexpr Registry<std::unique_ptr<Combiner>>::Entry kCombiners[] = {
    {"linear", "weighted mean of the models", make_linear},
    {"ties", "task vectors without what is small or in dispute (Yadav et al. 2023)", make_ties},
};

}  // namespace

const Registry<std::unique_ptr<Combiner>>& combiners() {
  static const Registry<std::unique_ptr<Combiner>> registry("combiner", kCombiners);
  return registry;
}

std::string_view combiner_successor(std::string_view name) {
  return name == "average" || name == "weighted" ? "linear" : "";
}

void Combiner::measure(const TensorOfModels& /*tensor*/, std::span<double> /*sums*/) const {}
void Combiner::measured(std::span<const double> /*sums*/) {}

}  // namespace impart::share

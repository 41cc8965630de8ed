#include "impart/share/combine.hpp"

#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "impart/core/error.hpp"
#include "impart/core/suggest.hpp"

namespace impart::share {

WeightedSum::WeightedSum(StateLayoutPtr layout) : layout_(std::move(layout)), sums_(layout_->arena_size()) {}

void WeightedSum::add(const StateDict& state, double weight) {
  if (const auto difference = layout_->difference(state.layout())) {
    throw Error("models of different architecture cannot be combined").got(*difference);
  }
  // By name: models may hold the same tensors in another order.
  for (const auto& entry : layout_->entries()) {
    const auto from = state.values(entry.name);
    double* to = sums_.data() + entry.offset;
    for (std::size_t i = 0; i < from.size(); ++i) to[i] += weight * static_cast<double>(from[i]);
  }
}

StateDict WeightedSum::result() const {
  StateDict state(layout_);
  const auto out = state.arena();
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(sums_[i]);
  return state;
}

StateDict weighted(std::span<const StateDict* const> models, std::span<const double> weights) {
  if (models.empty()) throw Error("there are no models to combine");
  if (weights.size() != models.size()) {
    throw Error("each model needs a weight")
        .expected(std::to_string(models.size()))
        .got(std::to_string(weights.size()));
  }
  for (const double w : weights) {
    if (!(w >= 0) || !std::isfinite(w))
      throw Error("a weight must be finite and not negative").got(std::to_string(w));
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (!(total > 0)) throw Error("the weights sum to zero");
  WeightedSum sum(models.front()->layout_ptr());
  for (std::size_t i = 0; i < models.size(); ++i) sum.add(*models[i], weights[i] / total);
  return sum.result();
}

StateDict average(std::span<const StateDict* const> models, std::span<const double> /*weights*/) {
  const std::vector<double> equal(models.size(), 1.0);
  return weighted(models, equal);
}

namespace {

using Function = StateDict (*)(std::span<const StateDict* const>, std::span<const double>);

constexpr std::array<std::pair<std::string_view, Function>, 2> kCombiners{{
    {"average", average},
    {"weighted", weighted},
}};

}  // namespace

std::vector<std::string_view> combiner_names() {
  std::vector<std::string_view> names;
  for (const auto& [name, function] : kCombiners) names.push_back(name);
  return names;
}

Combiner find_combiner(std::string_view name) {
  std::string known;
  for (const auto& [known_name, function] : kCombiners) {
    if (known_name == name) return function;
    known += (known.empty() ? "" : ", ") + std::string(known_name);
  }
  throw Error("unknown way to combine models", ErrorKind::kUsage)
      .expected("one of " + known)
      .got("'" + std::string(name) + "'")
      .hint(suggestion(name, combiner_names()));
}

}  // namespace impart::share

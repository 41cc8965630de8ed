#include "share/combine/model_weights.hpp"

#include <fmt/format.h>

#include <numeric>

#include "impart/core/counted.hpp"
#include "impart/core/error.hpp"

namespace impart::share {

void ModelWeights::read(Settings& settings) {
  settings.read("weight", weight, at_least(0), "how much each model counts; not given: all the same");
  settings.read("normalize", normalize, "divide by the sum of the weights");
}

std::vector<double> ModelWeights::given(std::size_t models) const {
  return weight.empty() ? std::vector<double>(models, 1.0) : one_a_model(weight, models, "weight");
}

std::vector<double> ModelWeights::applied(std::size_t models) const {
  return normalize ? of_mean(models) : given(models);
}

std::vector<double> ModelWeights::of_mean(std::size_t models) const {
  auto values = given(models);
  const double total = std::accumulate(values.begin(), values.end(), 0.0);
  if (!(total > 0)) throw Error("the weights of the models sum to zero", ErrorKind::kUsage);
  for (auto& value : values) value /= total;
  return values;
}

std::vector<double> one_a_model(std::span<const double> values, std::size_t models, std::string_view key) {
  if (values.size() == 1) return std::vector<double>(models, values[0]);
  if (values.size() == models) return {values.begin(), values.end()};
  throw Error(fmt::format("each model needs its own `{}`", key), ErrorKind::kUsage)
      .expected(counted(static_cast<std::int64_t>(models), "number"))
      .got(std::to_string(values.size()));
}

void add_weighted(std::span<double> sums, std::span<const float> values, double weight) {
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += weight * static_cast<double>(values[i]);
}

void weighted_sum(std::span<const std::span<const float>> models, std::span<const double> weights,
                  std::span<float> result) {
  std::vector<double> sums(result.size());
  for (std::size_t m = 0; m < models.size(); ++m) add_weighted(sums, models[m], weights[m]);
  for (std::size_t i = 0; i < sums.size(); ++i) result[i] = static_cast<float>(sums[i]);
}

}  // namespace impart::share

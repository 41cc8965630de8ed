// least_squares and newton against scikit-learn, as solver_reference.py has written it.
#include <gtest/gtest.h>

#include <cmath>

#include "impart/nn/network.hpp"
#include "impart/train/trainer.hpp"
#include "memory_source.hpp"
#include "records.hpp"

namespace impart::train {
namespace {

using Records = std::map<std::string, std::vector<double>>;

constexpr double kTolerance = 1e-6;

/// ||a - b|| / ||b||, b being scikit-learn's, negated when it is the other class's.
double difference(std::span<const float> a, const std::vector<double>& b, double sign) {
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    error += std::pow(static_cast<double>(a[i]) - sign * b[i], 2);
    norm += b[i] * b[i];
  }
  return std::sqrt(error / norm);
}

struct Case {
  SettingTable solver = {{"kind", "least_squares"}};
  std::string objective = "mean_squared_error";
  int classes = 4;
  bool bias = true;
};

void compare(const Records& reference, const std::string& name, const Case& wanted) {
  SCOPED_TRACE(name);
  auto labels = testing_support::integers(reference.at("labels"));
  if (wanted.classes == 2) {
    for (auto& label : labels) label %= 2;
  }
  const auto columns = static_cast<std::int64_t>(reference.at("x").size() / labels.size());
  nn::ModelSpec spec{"linear",
                     Shape{columns},
                     wanted.classes,
                     {{"dense", "", {{"units", std::int64_t{wanted.classes}}, {"bias", wanted.bias}}}}};
  nn::name_layers(spec);
  const auto world = comm::Comm::world();
  testing_support::MemorySource source(spec.input, testing_support::floats(reference.at("x")), labels);
  const auto data = data::read_dataset(world, source, "reference", wanted.classes);

  TrainerOptions options;
  options.solver = make_solver(wanted.solver);
  options.l2 = options.solver->kind() == "newton" ? 0.01 : 0;
  const auto objective = nn::make_objective(wanted.objective);
  auto state = nn::initial_state(spec, 1);
  train(world, options, {spec, *objective, data, nullptr, {}, nullptr, {}, {}}, state);

  const bool one_output = wanted.classes == 2;  // scikit-learn has one, for the second class
  const auto weight = state.values("dense1.weight");
  const auto& expected = reference.at(name + ".weight");
  EXPECT_LT(difference(weight.last(expected.size()), expected, 1), kTolerance);
  if (one_output) {
    EXPECT_LT(difference(weight.first(expected.size()), expected, -1), kTolerance);
  }
  if (!wanted.bias) return;
  const auto& bias = reference.at(name + ".bias");
  EXPECT_LT(difference(state.values("dense1.bias").last(bias.size()), bias, 1), kTolerance);
}

TEST(SolverSklearn, WeightsAgree) {
  if (!std::filesystem::exists(IMPART_REFERENCE))
    GTEST_SKIP() << "no reference values: install Debian's python3-sklearn to compare with scikit-learn";
  const auto reference = testing_support::read_records(IMPART_REFERENCE);
  const SettingTable newton{{"kind", "newton"}, {"tolerance", 1e-12}};
  compare(reference, "least_squares", {});
  compare(reference, "least_squares_without_bias", {.bias = false});
  compare(reference, "ridge", {.solver = {{"kind", "least_squares"}, {"ridge", 3}}});
  compare(reference, "multinomial", {.solver = newton, .objective = "cross_entropy"});
  compare(reference, "multinomial_without_bias",
          {.solver = newton, .objective = "cross_entropy", .bias = false});
  compare(reference, "one_vs_rest", {.solver = newton, .objective = "binary_cross_entropy"});
  compare(reference, "binary", {.solver = newton, .objective = "binary_cross_entropy", .classes = 2});
  compare(reference, "binary_softmax", {.solver = newton, .objective = "cross_entropy", .classes = 2});
}

}  // namespace
}  // namespace impart::train

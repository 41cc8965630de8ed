// Losses and their gradients against PyTorch's, as objective_reference.py has written them.
#include <gtest/gtest.h>

#include "impart/nn/objective.hpp"
#include "nn/nn_testing.hpp"
#include "records.hpp"

namespace impart::nn::testing {
namespace {

using testing_support::floats;
using testing_support::integers;

TEST(ObjectiveTorch, LossesAndGradientsAgree) {
  const impart::SettingValue weights(std::vector{0.5, 2.0, 1.0, 0.25, 3.0});
  const auto of = [](const char* kind, SettingTable settings = {}) {
    settings.emplace_back("kind", kind);
    return settings;
  };
  const std::map<std::string, SettingTable> cases{
      {"cross_entropy", of("cross_entropy")},
      {"cross_entropy_smoothed", of("cross_entropy", {{"label_smoothing", 0.1}})},
      {"cross_entropy_weighted", of("cross_entropy", {{"class_weights", weights}})},
      {"cross_entropy_both", of("cross_entropy", {{"label_smoothing", 0.2}, {"class_weights", weights}})},
      {"binary_cross_entropy", of("binary_cross_entropy")},
      {"mean_squared_error", of("mean_squared_error")},
      {"l1", of("l1")},
      {"huber", of("huber", {{"delta", 0.7}})},
      {"hinge", of("hinge")},
      {"multiclass_hinge", of("multiclass_hinge", {{"margin", 0.8}})},
      {"multiclass_hinge_squared", of("multiclass_hinge", {{"power", 2}})},
      {"kl", of("kl", {{"label_smoothing", 0.3}})},
  };
  if (!std::filesystem::exists(IMPART_REFERENCE))
    GTEST_SKIP() << "no reference values: install Debian's python3-torch to compare with PyTorch";
  const auto reference = testing_support::read_records(IMPART_REFERENCE);
  const auto outputs = floats(reference.at("outputs"));
  const auto labels = integers(reference.at("labels"));
  const auto others = integers(reference.at("others"));
  const auto share = floats(reference.at("share"));
  const auto classes = static_cast<std::int64_t>(outputs.size() / labels.size());

  std::size_t compared = 0;
  for (const auto& [name, settings] : cases) {
    const auto objective = make_objective(settings);
    for (const std::string suffix : {"", ".mixed"}) {
      const auto expected = reference.find(name + suffix + ".loss");
      if (expected == reference.end()) continue;
      SCOPED_TRACE(name + suffix);
      Targets targets{.labels = labels};
      if (!suffix.empty()) targets = {.labels = labels, .other_labels = others, .share = share};
      std::vector<float> gradient(outputs.size());
      const double weight = objective->weight(targets);
      const double loss =
          objective->evaluate(outputs, targets, classes, static_cast<float>(1 / weight), gradient);
      EXPECT_NEAR(loss / weight / expected->second[0], 1, 1e-6);
      EXPECT_LT(relative_difference(gradient, floats(reference.at(name + suffix + ".gradient"))), 1e-6);
      ++compared;
    }
  }
  EXPECT_EQ(compared, 20U);
  for (const auto name : objectives().names()) EXPECT_TRUE(cases.contains(std::string(name))) << name;
}

}  // namespace
}  // namespace impart::nn::testing

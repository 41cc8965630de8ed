// top_k_accuracy against scikit-learn, as top_k_reference.py has written it.
#include <gtest/gtest.h>

#include <filesystem>

#include "impart/core/error.hpp"
#include "impart/metrics/classification.hpp"
#include "impart/metrics/metric.hpp"
#include "records.hpp"

namespace impart::metrics {
namespace {

MetricPtr top(int k) {
  return read_settings({{"kind", "top_k_accuracy"}, {"k", k}}, "metric",
                       [](Settings& settings) { return classification_metrics().make(settings, ""); });
}

TEST(TopKAccuracy, EqualsThatOfScikitLearnForEveryK) {
  if (!std::filesystem::exists(IMPART_REFERENCE))
    GTEST_SKIP() << "no reference values: install Debian's python3-sklearn to compare with scikit-learn";
  const auto reference = testing_support::read_records(IMPART_REFERENCE);
  const auto labels = testing_support::integers(reference.at("labels"));
  for (const std::string name : {"distinct", "tied"}) {
    const auto outputs = testing_support::floats(reference.at(name));
    const auto classes = outputs.size() / labels.size();
    const auto& expected = reference.at(name + ".accuracies");
    for (std::size_t k = 1; k < classes; ++k) {
      const auto sum = top(static_cast<int>(k))->start(static_cast<int>(classes));
      for (std::size_t i = 0; i < labels.size(); ++i) {
        const auto row = std::span(outputs).subspan(i * classes, classes);
        sum->add({row, argmax(row), labels[i]});
      }
      EXPECT_DOUBLE_EQ(sum->value(), expected.at(k - 1)) << name << ", k = " << k;
    }
  }
}

TEST(TopKAccuracy, IsNamedByItsK) {
  EXPECT_EQ(top(5)->name(), "top5_accuracy");
  auto settings = Settings::defaults();
  EXPECT_EQ(classification_metrics().get("top_k_accuracy").make(settings)->name(), "top5_accuracy");
}

TEST(TopKAccuracy, RefusesAKThatSaysNothing) {
  EXPECT_THROW(top(0), Error);
  EXPECT_NO_THROW(top(9)->check(10));
  EXPECT_THROW(top(10)->check(10), Error);
}

}  // namespace
}  // namespace impart::metrics

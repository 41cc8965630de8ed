#include "impart/metrics/classification.hpp"

#include <gtest/gtest.h>

#include <array>

namespace impart::metrics {
namespace {

ConfusionMatrix filled(std::initializer_list<std::pair<int, int>> pairs, int classes) {
  ConfusionMatrix matrix(classes);
  for (const auto& [label, prediction] : pairs) matrix.add(label, prediction);
  return matrix;
}

TEST(ConfusionMatrix, MacroF1AsScikitLearn) {
  // f1_score(average="macro") of y = [0,0,1,1,1,2], p = [0,1,1,1,0,2].
  const auto matrix = filled({{0, 0}, {0, 1}, {1, 1}, {1, 1}, {1, 0}, {2, 2}}, 3);
  EXPECT_DOUBLE_EQ(matrix.f1_macro(), (0.5 + 2.0 / 3 + 1.0) / 3);
}

TEST(ConfusionMatrix, ClassThatNeverComesIsLeftOutOfF1) {
  EXPECT_DOUBLE_EQ(filled({{0, 0}, {1, 1}}, 5).f1_macro(), 1.0);
}

TEST(ConfusionMatrix, MergedPartsEqualTheWhole) {
  const auto whole = filled({{0, 0}, {0, 1}, {1, 1}, {2, 0}}, 3);
  auto part = filled({{0, 0}, {0, 1}}, 3);
  part.merge(filled({{1, 1}, {2, 0}}, 3));
  EXPECT_EQ(part.f1_macro(), whole.f1_macro());
}

TEST(ConfusionMatrix, WithoutSamplesIsZeroAndNotNan) { EXPECT_EQ(ConfusionMatrix(4).f1_macro(), 0); }

TEST(Argmax, TakesTheFirstOfEquals) { EXPECT_EQ(argmax(std::array{1.0F, 3.0F, 3.0F}), 1); }

}  // namespace
}  // namespace impart::metrics

#include "impart/core/error.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>

#include "impart/core/suggest.hpp"

namespace impart {
namespace {

TEST(Error, ComposesOneLine) {
  EXPECT_STREQ(Error("label outside the classes").what(), "label outside the classes");
  EXPECT_STREQ(
      Error("label outside the classes")
          .at("data/labels.gz")
          .expected("0 to 9")
          .got("17 at record 4")
          .hint("check `classes`")
          .what(),
      "data/labels.gz: label outside the classes: expected 0 to 9, got 17 at record 4 (check `classes`)");
}

TEST(Error, PartsMayBeLeftOut) {
  EXPECT_STREQ(Error("no such file").at("a.csv").what(), "a.csv: no such file");
  EXPECT_STREQ(Error("bad").got("1").what(), "bad: got 1");
  EXPECT_STREQ(Error("bad").expected("2").what(), "bad: expected 2");
  EXPECT_STREQ(Error("bad").hint("mend it").what(), "bad (mend it)");
  EXPECT_STREQ(Error("bad").got("1").expected("2").what(), "bad: expected 2, got 1")
      << "the order does not count";
}

TEST(Error, OuterPlacesComeFirst) {
  try {
    try {
      throw Error("does not fit").at("conv1");
    } catch (Error& e) {
      e.at("stage teacher");
      throw;
    }
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "stage teacher: conv1: does not fit");
  }
}

TEST(Error, KindAndCollectiveAreKept) {
  EXPECT_EQ(Error("x").kind(), ErrorKind::kRun);
  EXPECT_FALSE(Error("x").is_collective());
  const Error e = Error("x", ErrorKind::kUsage).at("deck").hint("y").collective();
  EXPECT_EQ(e.kind(), ErrorKind::kUsage);
  EXPECT_TRUE(e.is_collective());
  EXPECT_STREQ(e.what(), "deck: x (y)");
}

TEST(Suggestion, FindsTheNearestWord) {
  static constexpr std::array<std::string_view, 4> known{"momentum", "learning_rate", "epochs", "seed"};
  EXPECT_EQ(suggestion("momemtum", known), "did you mean 'momentum'?");
  EXPECT_EQ(suggestion("learning-rate", known), "did you mean 'learning_rate'?");
  EXPECT_EQ(suggestion("Epoch", known), "did you mean 'epochs'?");
  EXPECT_EQ(suggestion("sede", known), "did you mean 'seed'?") << "a swap of neighbours is one edit";
}

TEST(Suggestion, IsSilentWhenNothingIsNear) {
  static constexpr std::array<std::string_view, 2> known{"momentum", "seed"};
  EXPECT_EQ(suggestion("kernel_size", known), "");
  EXPECT_EQ(suggestion("", known), "");
  EXPECT_EQ(suggestion(std::string(100000, 'm'), known), "");
  EXPECT_EQ(suggestion("seed", {}), "");
}

}  // namespace
}  // namespace impart

#include "impart/core/settings.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "impart/core/printable.hpp"
#include "impart/core/registry.hpp"

namespace impart {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// A table, a reader of it, and what that finds wrong.
struct Read {
  explicit Read(SettingTable given) : table(std::move(given)), settings(table, "stage.a", places, problems) {}

  SettingTable table;
  Places places;
  Problems problems;
  Settings settings;
};

TEST(Settings, ReadsValuesOfTheirTypes) {
  Read read({{"on", true},
             {"epochs", 3},
             {"rate", 1},
             {"name", "x"},
             {"freeze", "conv*"},
             {"weights", std::vector<double>{0.5, 2}},
             {"shape", std::vector<std::int64_t>{1, 28, 28}}});
  bool on = false;
  int epochs = 1;
  double rate = 0;
  std::string name;
  std::vector<std::string> freeze;
  std::vector<double> weights;
  Shape shape;
  EXPECT_TRUE(read.settings.read("on", on, ""));
  EXPECT_TRUE(read.settings.read("epochs", epochs, at_least(1), ""));
  EXPECT_TRUE(read.settings.read("rate", rate, at_least(0), ""));
  EXPECT_TRUE(read.settings.read("name", name, ""));
  EXPECT_TRUE(read.settings.read("freeze", freeze, ""));
  EXPECT_TRUE(read.settings.read("weights", weights, above(0), ""));
  EXPECT_TRUE(read.settings.read("shape", shape, ""));
  read.settings.finish();
  EXPECT_THAT(read.problems.lines(), IsEmpty());
  EXPECT_TRUE(on);
  EXPECT_EQ(epochs, 3);
  EXPECT_EQ(rate, 1);
  EXPECT_EQ(name, "x");
  EXPECT_THAT(freeze, ElementsAre("conv*"));
  EXPECT_THAT(weights, ElementsAre(0.5, 2));
  EXPECT_EQ(shape, (Shape{1, 28, 28}));
}

TEST(Settings, WrongTypesAndRangesAreProblemsAndLeaveTheDefault) {
  Read read({{"epochs", 0},
             {"rate", "fast"},
             {"weights", SettingArray{1.0, "x"}},
             {"beta", std::numeric_limits<double>::infinity()},
             {"mean", std::numeric_limits<double>::quiet_NaN()}});
  int epochs = 5;
  double rate = 0.1;
  double beta = 0.9;
  double mean = 0.25;
  std::vector<double> weights{3};
  EXPECT_FALSE(read.settings.read("epochs", epochs, at_least(1), ""));
  EXPECT_FALSE(read.settings.read("rate", rate, at_least(0), ""));
  EXPECT_FALSE(read.settings.require("weights", weights, at_least(0), ""));
  EXPECT_FALSE(read.settings.read("beta", beta, at_least(0), ""));
  EXPECT_FALSE(read.settings.read("mean", mean, any_number(), ""));
  EXPECT_EQ(epochs, 5);
  EXPECT_EQ(rate, 0.1);
  EXPECT_EQ(beta, 0.9);
  EXPECT_EQ(mean, 0.25);
  EXPECT_THAT(weights, ElementsAre(3));
  // One line each: a value that is wrong is not missing, too.
  EXPECT_THAT(read.problems.lines(),
              ElementsAre("stage.a.epochs: expected at least 1, got 0",
                          "stage.a.rate: expected a number, got the string \"fast\"",
                          "stage.a.weights: expected an array of numbers, got the string \"x\"",
                          "stage.a.beta: expected a finite number, got inf",
                          "stage.a.mean: expected a finite number, got nan"));
}

TEST(Settings, UnknownKeysAreToldWithTheNearest) {
  Read read({{"epoch", 3}, {"epoch", 4}});
  int epochs = 1;
  read.settings.read("epochs", epochs, at_least(1), "");
  read.settings.finish();
  EXPECT_THAT(read.problems.lines(), ElementsAre("stage.a: unknown key 'epoch' (did you mean 'epochs'?)",
                                                 "stage.a.epoch: is given twice"));
}

TEST(Settings, OldKeysNameTheirSuccessors) {
  Read read({{"deviation", 0.1}});
  double std = 0.2;
  read.settings.renamed("deviation", "std");
  read.settings.read("std", std, at_least(0), "");
  read.settings.finish();
  EXPECT_THAT(read.problems.lines(), ElementsAre("stage.a.deviation: is called `std` now"));
}

TEST(Settings, WhatWasReadIsKeptWithDefaults) {
  Read read({{"kind", "sgd"},
             {"inner", SettingTable{{"x", 2}}},
             {"list", SettingArray{SettingTable{{"y", 1}}, SettingTable{}}}});
  int x = 1;
  int y = 5;
  std::string kind;
  read.settings.read("kind", kind, "");
  auto inner = read.settings.table("inner");
  inner.read("x", x, {}, "");
  for (auto& each : read.settings.tables("list")) {
    y = 5;
    each.read("y", y, {}, "");
  }
  EXPECT_EQ(to_json(read.settings.resolved()), R"({"kind":"sgd","inner":{"x":2},"list":[{"y":1},{"y":5}]})");
}

TEST(Settings, TextsOfOthersCannotForgeLines) {
  SettingTable given;
  put_setting(given, "kind", "x\nerror: all is lost\x1b[31m");
  Read read(std::move(given));
  std::size_t chosen = 0;
  read.settings.choose_word("kind", chosen, {"sgd", "adam"}, "");
  ASSERT_EQ(read.problems.size(), 1U);
  EXPECT_THAT(read.problems.lines()[0], HasSubstr("x\\nerror: all is lost\\x1b[31m"));
  EXPECT_EQ(printable(std::string_view("a\0b\u0085\u00e9", 7)), "a\\x00b\\x85\u00e9");
}

struct Letter {
  double m = 0.5;
  int n = 3;
};

std::unique_ptr<Letter> make_a(Settings& settings) {
  auto made = std::make_unique<Letter>();
  settings.read("m", made->m, below(0, 1), "how much of the last step is kept");
  settings.read("n", made->n, at_least(1).in("epochs"), "for how long");
  return made;
}

std::unique_ptr<Letter> make_b(Settings& /*settings*/) { return std::make_unique<Letter>(); }

constexpr Registry<std::unique_ptr<Letter>>::Entry kLetters[] = {{"a", "the first", make_a},
                                                                 {"b", "the second", make_b}};
constexpr Registry<std::unique_ptr<Letter>> kRegistry("letter", kLetters);

TEST(Registry, MakesByNameOrByTable) {
  Read read({{"x", SettingTable{{"kind", "a"}, {"n", 7}}}, {"y", "b"}});
  EXPECT_EQ(kRegistry.read(read.settings, "x", "b", "")->n, 7);
  EXPECT_EQ(kRegistry.read(read.settings, "y", "a", "")->n, 3);
  EXPECT_EQ(kRegistry.read(read.settings, "z", "a", "")->m, 0.5);
  read.settings.finish();
  EXPECT_THAT(read.problems.lines(), IsEmpty());
  EXPECT_EQ(to_json(read.settings.resolved()),
            R"({"x":{"kind":"a","m":0.5,"n":7},"y":{"kind":"b"},"z":{"kind":"a","m":0.5,"n":3}})");
}

TEST(Registry, AListHasTablesAndNames) {
  Read read(
      {{"x", SettingArray{"b", SettingTable{{"kind", "a"}, {"n", 7}}}}, {"y", SettingArray{"a", "c", 3}}});
  const auto list = kRegistry.read_list(read.settings, "x", "");
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[1]->n, 7);
  kRegistry.read_list(read.settings, "y", "");
  EXPECT_THAT(read.problems.lines(),
              ElementsAre("stage.a.y: expected an array of tables or strings, got the integer 3",
                          "stage.a.y[2]: expected a, b, got 'c'"));
  EXPECT_THAT(to_json(read.settings.resolved()),
              HasSubstr(R"("x":[{"kind":"b"},{"kind":"a","m":0.5,"n":7}])"));
}

TEST(Registry, AWrongKindIsOneProblem) {
  Read read({{"x", SettingTable{{"kind", "aa"}, {"what", 1}}}, {"y", "zzz"}, {"z", SettingTable{}}});
  kRegistry.read(read.settings, "x", "b", "");
  kRegistry.read(read.settings, "y", "b", "");
  kRegistry.read(read.settings, "z", "", "");
  EXPECT_THAT(read.problems.lines(),
              ElementsAre("stage.a.x.kind: expected a, b, got 'aa' (did you mean 'a'?)",
                          "stage.a.y: expected a, b, got 'zzz'", "stage.a.z: 'kind' is missing"));
}

TEST(Registry, DocumentsItself) {
  const auto docs = kRegistry.document();
  ASSERT_EQ(docs.size(), 2U);
  ASSERT_EQ(docs[0].settings.size(), 2U);
  const auto& n = docs[0].settings[1];
  EXPECT_EQ(n.key, "n");
  EXPECT_EQ(n.type, "integer");
  EXPECT_EQ(n.range, "at least 1 epochs");
  EXPECT_EQ(n.fallback, "3");
  EXPECT_EQ(n.text, "for how long");
  std::vector<SettingDoc> rows;
  auto documenting = Settings::defaults(&rows);
  auto inner = documenting.table("training");
  kRegistry.read(inner, "letter", "a", "a letter");
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].key, "training.letter");
  EXPECT_EQ(rows[0].topic, "letter");
}

TEST(Registry, AnUnknownNameNamesTheNearest) {
  try {
    static_cast<void>(kRegistry.get("bb"));
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    EXPECT_THAT(e.what(), HasSubstr("did you mean 'b'?"));
  }
}

TEST(SettingValue, JsonAndBack) {
  const SettingTable table{{"b", true},
                           {"i", 3},
                           {"d", 0.1},
                           {"t", "x\"y"},
                           {"a", std::vector<std::int64_t>{1, 2}},
                           {"o", SettingTable{{"k", 1.5}}}};
  const auto text = to_json(table);
  EXPECT_EQ(text, R"({"b":true,"i":3,"d":0.1,"t":"x\"y","a":[1,2],"o":{"k":1.5}})");
  EXPECT_EQ(setting_from_json(text), SettingValue(table));
  EXPECT_THROW(setting_from_json("{"), Error);
}

}  // namespace
}  // namespace impart

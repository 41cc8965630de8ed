// TIES against plain NumPy, as ties_reference.py has written it, and where the field's own code goes wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>

#include "impart/comm/comm.hpp"
#include "records.hpp"
#include "share/combine_support.hpp"

namespace impart::share {
namespace {

using testing::HasSubstr;
using testing_support::equal_bits;
using testing_support::error_of;
using testing_support::make_combiner;

StateLayoutPtr small_layout() {
  return std::make_shared<StateLayout>(
      std::vector<StateEntry>{{"conv.weight", Shape{16, 12}},
                              {"bn.running_mean", Shape{2}, StateKind::kBuffer},
                              {"conv.bias", Shape{12}},
                              {"fc.weight", Shape{3, 4, 5}}});
}

StateDict state_of(std::span<const double> parameters) {
  StateDict state(small_layout());
  std::size_t from = 0;
  for (const auto& entry : state.layout().entries()) {
    for (auto& value : state.values(entry))
      value = entry.kind == StateKind::kBuffer ? 1.0F : static_cast<float>(parameters[from++]);
  }
  return state;
}

void expect_near(const StateDict& state, std::span<const double> wanted) {
  std::size_t from = 0;
  for (const auto& entry : state.layout().entries()) {
    for (const float value : state.values(entry)) {
      const double one = entry.kind == StateKind::kBuffer ? 1.0 : wanted[from++];
      EXPECT_NEAR(value, one, 1e-6 * std::max(1.0, std::abs(one))) << entry.name;
    }
  }
}

TEST(Ties, AgreesWithNumPyOnAnyNumberOfRanks) {
  if (!std::filesystem::exists(IMPART_REFERENCE))
    GTEST_SKIP() << "no reference values: install Debian's python3-numpy to compare with NumPy";
  const auto reference = testing_support::read_records(IMPART_REFERENCE);
  const std::vector<double> weight{1, 0.5, 2};
  const std::vector<double> density{0.3, 0.5, 0.7};
  const std::map<std::string, SettingTable> cases{
      {"normal.plain", {{"density", std::vector{0.2}}}},
      {"normal.weighted", {{"density", density}, {"weight", weight}, {"lambda", 0.8}}},
      {"normal.sum", {{"density", density}, {"weight", weight}, {"normalize", false}}},
      {"normal.per_tensor", {{"density", density}, {"weight", weight}, {"trim_per_tensor", true}}},
      {"normal.all", {{"weight", weight}}},
      {"plus.plain", {{"density", std::vector{0.4}}}},
      {"minus.plain", {{"density", std::vector{0.4}}}},
  };
  const auto world = comm::Comm::world();
  for (const auto& [name, settings] : cases) {
    SCOPED_TRACE(name);
    const auto kind = name.substr(0, name.find('.'));
    const auto base = state_of(reference.at(kind + ".base"));
    std::vector<StateDict> models;
    for (int m = 0; m < 3; ++m) models.push_back(state_of(reference.at(kind + ".model" + std::to_string(m))));
    const auto ties = make_combiner("ties", settings);
    const auto alone =
        combine(*ties, std::vector<const StateDict*>{&models[0], &models[1], &models[2]}, &base);
    expect_near(alone, reference.at(name));

    const StateSource base_source(base);
    const std::vector<StateSource> sources(models.begin(), models.end());
    const std::vector<const TensorSource*> pointers{&sources[0], &sources[1], &sources[2]};
    EXPECT_TRUE(equal_bits(alone, combine(world, 4, *ties, {pointers, &base_source})));
  }
}

/// One parameter tensor of the given values, and one of zeros.
StateDict small(std::vector<float> first, std::vector<float> second = {0, 0}) {
  StateDict state(
      std::make_shared<StateLayout>(std::vector<StateEntry>{{"a", Shape{std::ssize(first)}},
                                                            {"b", Shape{std::ssize(second)}},
                                                            {"running_mean", Shape{1}, StateKind::kBuffer}}));
  std::ranges::copy(first, state.values("a").begin());
  std::ranges::copy(second, state.values("b").begin());
  state.values("running_mean")[0] = first[0];
  return state;
}

StateDict ties(const SettingTable& settings, const std::vector<const StateDict*>& models,
               const StateDict& base) {
  return combine(*make_combiner("ties", settings), models, &base);
}

std::vector<float> values(const StateDict& state, const char* name) {
  const auto span = state.values(name);
  return {span.begin(), span.end()};
}

TEST(Ties, TrimsOverTheWholeTaskVectorUnlessToldOtherwise) {
  const auto base = small({0, 0}, {0, 0});
  const auto model = small({4, 3}, {2, 1});
  const SettingTable half{{"density", std::vector{0.5}}};
  const auto whole = ties(half, {&model}, base);
  EXPECT_EQ(values(whole, "a"), (std::vector<float>{4, 3}));
  EXPECT_EQ(values(whole, "b"), (std::vector<float>{0, 0}));
  const auto each = ties({{"density", std::vector{0.5}}, {"trim_per_tensor", true}}, {&model}, base);
  EXPECT_EQ(values(each, "a"), (std::vector<float>{4, 0}));
  EXPECT_EQ(values(each, "b"), (std::vector<float>{2, 0}));
}

TEST(Ties, AZeroSumTakesTheSignOfTheMajority) {
  const auto base = small({0, 0, 0});
  const auto a = small({1, -1, -1});
  const auto minus = small({-1, -1, 0});
  EXPECT_EQ(values(ties({}, {&a, &minus}, base), "a"), (std::vector<float>{-1, -1, -1}));
  const auto plus = small({-1, 3, 2});
  EXPECT_EQ(values(ties({}, {&a, &plus}, base), "a"), (std::vector<float>{1, 3, 2}));
  const auto neither = small({-1, 1, 1});
  EXPECT_EQ(values(ties({}, {&a, &neither}, base), "a"), (std::vector<float>{0, 0, 0})) << "the base stays";
}

TEST(Ties, OfOneModelWithAllOfItIsThatModel) {
  const auto base = testing_support::random_state(1);
  const auto model = testing_support::random_state(2);
  EXPECT_TRUE(equal_bits(model, ties({}, {&model}, base)));
  EXPECT_TRUE(equal_bits(base, ties({{"density", std::vector{0.3}}}, {&base, &base}, base)));
}

TEST(Ties, BuffersAreTheWeightedMeanOfTheModels) {
  const auto base = small({100, 0});
  const auto a = small({1, 0});
  const auto b = small({5, 0});
  const SettingTable settings{{"weight", std::vector<double>{3, 1}}, {"lambda", 7}, {"normalize", false}};
  EXPECT_EQ(values(ties(settings, {&a, &b}, base), "running_mean"), (std::vector<float>{2}));
}

TEST(Ties, RefusesWhatItCannotMerge) {
  const auto base = small({0, 0});
  const auto a = small({1, 2});
  const auto broken = small({std::numeric_limits<float>::quiet_NaN(), 2});
  const auto other = small({1, 2, 3});
  EXPECT_THAT(error_of([&] { combine(*make_combiner("ties"), std::vector{&a}); }),
              HasSubstr("needs their base"));
  EXPECT_THAT(error_of([&] { ties({}, {&a, &broken}, base); }), HasSubstr("a: a value is not finite"));
  EXPECT_THAT(error_of([&] { ties({}, {&other}, base); }), HasSubstr("different architecture"));
  EXPECT_THAT(error_of([&] { ties({{"density", std::vector{0.0}}}, {&a}, base); }), HasSubstr("above 0"));
  EXPECT_THAT(error_of([&] {
                ties({{"density", std::vector{0.5, 0.5}}}, {&a, &a, &a}, base);
              }),
              HasSubstr("`density`"));
}

}  // namespace
}  // namespace impart::share

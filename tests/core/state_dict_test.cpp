#include "impart/core/state_dict.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "impart/core/error.hpp"

namespace impart {
namespace {

StateEntry parameter(std::string name, Shape shape) {
  return {std::move(name), std::move(shape), StateKind::kParameter};
}

StateEntry buffer(std::string name, Shape shape) {
  return {std::move(name), std::move(shape), StateKind::kBuffer};
}

/// Parameters and buffers in turn, as a batch norm between two layers gives them.
std::vector<StateEntry> entries() {
  return {parameter("conv1.weight", Shape{5, 1, 3, 3}), buffer("bn1.running_mean", Shape{5}),
          parameter("bn1.weight", Shape{5}), buffer("bn1.running_var", Shape{5}),
          parameter("dense1.weight", Shape{4, 4})};
}

StateLayoutPtr layout() { return std::make_shared<const StateLayout>(entries()); }

std::string difference(std::vector<StateEntry> there) {
  return layout()->difference(StateLayout(std::move(there))).value_or("none");
}

TEST(StateLayout, KeepsTheOrder) {
  const auto made = layout();
  const auto wanted = entries();
  ASSERT_EQ(made->entries().size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_EQ(made->entries()[i].name, wanted[i].name);
}

TEST(StateLayout, ParametersFirstEachOnACacheLine) {
  const auto made = layout();
  std::size_t end = 0;  // of the tensors that come before, by offset
  for (const auto* name :
       {"conv1.weight", "bn1.weight", "dense1.weight", "bn1.running_mean", "bn1.running_var"}) {
    const auto* entry = made->find(name);
    ASSERT_NE(entry, nullptr) << name;
    EXPECT_EQ(entry->offset % 16, 0U) << name;
    EXPECT_GE(entry->offset, end) << name;
    EXPECT_LT(entry->offset - end, 16U) << name;
    end = entry->offset + static_cast<std::size_t>(entry->shape.elements());
  }
  EXPECT_EQ(made->parameter_arena_size(), made->find("bn1.running_mean")->offset);
  EXPECT_EQ(made->parameter_arena_size(), 48U + 16U + 16U);
  EXPECT_EQ(made->arena_size(), 48U + 16U + 16U + 16U + 16U);
  EXPECT_EQ(made->parameter_count(), 45 + 5 + 16);
}

TEST(StateLayout, RefusesTwoOfOneName) {
  try {
    StateLayout made({parameter("weight", Shape{1}), buffer("weight", Shape{1})});
    FAIL() << "two tensors of one name";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "two tensors of a model share the name 'weight'");
  }
}

TEST(StateLayout, FindsByName) {
  const auto made = layout();
  EXPECT_EQ(made->find("conv1.weight"), &made->entries()[0]);
  EXPECT_EQ(made->find("conv1"), nullptr);
}

TEST(StateLayout, StillFindsAfterAMove) {
  StateLayout from(entries());
  const StateLayout to(std::move(from));
  EXPECT_EQ(to.find("bn1.weight"), &to.entries()[2]);
  // A copy's index would name the strings of the original.
  EXPECT_FALSE(std::is_copy_constructible_v<StateLayout>);
}

TEST(StateLayout, SaysTheDifference) {
  auto there = entries();
  EXPECT_EQ(difference(there), "none");
  std::swap(there[0], there[4]);
  EXPECT_EQ(difference(there), "none") << "the order does not count";

  there = entries();
  there[2].shape = Shape{6};
  EXPECT_EQ(difference(there), "'bn1.weight' is 5 here and 6 there");
  there = entries();
  there[1].kind = StateKind::kParameter;
  EXPECT_EQ(difference(there), "'bn1.running_mean' is a buffer here and a parameter there");
  there = entries();
  there.pop_back();
  EXPECT_EQ(difference(there), "'dense1.weight' is missing");
  there = entries();
  there.push_back(parameter("dense1.bias", Shape{4}));
  EXPECT_EQ(difference(there), "'dense1.bias' is unknown here");
}

TEST(StateDict, StartsWithZerosAndKeepsKindsApart) {
  StateDict state(layout());
  EXPECT_TRUE(std::ranges::all_of(state.arena(), [](float v) { return v == 0.0F; }));
  EXPECT_EQ(state.parameters().size() + state.buffers().size(), state.arena().size());
  std::ranges::fill(state.parameters(), 1.0F);
  for (const auto& entry : state.layout().entries()) {
    const float wanted = entry.kind == StateKind::kParameter ? 1.0F : 0.0F;
    EXPECT_TRUE(std::ranges::all_of(state.values(entry), [&](float v) { return v == wanted; })) << entry.name;
  }
}

TEST(StateDict, WritingTensorsLeavesThePaddingZero) {
  StateDict state(layout());
  std::size_t written = 0;
  for (const auto& entry : state.layout().entries()) {
    const auto values = state.values(entry.name);
    EXPECT_EQ(values.size(), static_cast<std::size_t>(entry.shape.elements()));
    std::ranges::fill(values, 2.0F);
    written += values.size();
  }
  EXPECT_EQ(std::ranges::count(state.arena(), 2.0F), static_cast<std::ptrdiff_t>(written))
      << "tensors overlap";
  EXPECT_EQ(std::ranges::count(state.arena(), 0.0F),
            static_cast<std::ptrdiff_t>(state.arena().size() - written));
}

TEST(StateDict, NamesWhatIsMissing) {
  const StateDict state(layout());
  try {
    (void)state.values("fc.weight");
    FAIL() << "no such tensor";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "the model has no tensor 'fc.weight'");
  }
}

TEST(StateDict, CloneAndCopy) {
  StateDict state(layout());
  std::iota(state.values("conv1.weight").begin(), state.values("conv1.weight").end(), 1.0F);
  StateDict copy = state.clone();
  EXPECT_TRUE(std::ranges::equal(copy.arena(), state.arena()));
  EXPECT_NE(copy.arena().data(), state.arena().data());
  copy.values("conv1.weight")[0] = -1;
  EXPECT_EQ(state.values("conv1.weight")[0], 1);

  StateDict equal_layout(layout());
  equal_layout.copy_from(state);
  EXPECT_TRUE(std::ranges::equal(equal_layout.arena(), state.arena()));

  auto other_order = entries();
  std::swap(other_order[0], other_order[4]);
  StateDict other(std::make_shared<const StateLayout>(other_order));
  EXPECT_THROW(other.copy_from(state), Error);
}

TEST(StateDict, ViewBorrowsAnArena) {
  const auto made = layout();
  std::vector<float> memory(made->arena_size());
  StateDict view = StateDict::view(made, memory);
  view.values("bn1.running_var")[4] = 3;
  EXPECT_EQ(memory[made->find("bn1.running_var")->offset + 4], 3);
  EXPECT_EQ(view.clone().values("bn1.running_var")[4], 3);
  memory.pop_back();
  EXPECT_THROW((void)StateDict::view(made, memory), Error);
}

}  // namespace
}  // namespace impart

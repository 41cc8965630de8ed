#include "impart/share/transfer/transfer.hpp"

#include <gtest/gtest.h>

#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/zoo.hpp"
#include "train/small_net.hpp"

namespace impart::share {
namespace {

using testing_support::small_net;

bool equal(std::span<const float> a, std::span<const float> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

TEST(Transfer, TakesAllButAHeadOfAnotherShape) {
  const auto source = nn::initial_state(small_net(4), 1);
  const auto result = transfer(source, small_net(7), Head::kAuto, 9);
  EXPECT_EQ(result.replaced, (std::vector<std::string>{"dense2.weight", "dense2.bias"}));
  for (const auto& name : result.loaded)
    EXPECT_TRUE(equal(result.state.values(name), source.values(name))) << name;
  EXPECT_EQ(result.loaded.size() + result.replaced.size(), result.state.layout().entries().size());
  // The new head is drawn from the seed.
  const auto fresh = nn::initial_state(small_net(7), 9);
  EXPECT_TRUE(equal(result.state.values("dense2.weight"), fresh.values("dense2.weight")));
}

TEST(Transfer, KeepsAHeadThatFitsUnlessToldOtherwise) {
  const auto source = nn::initial_state(small_net(4), 1);
  EXPECT_TRUE(transfer(source, small_net(4), Head::kAuto, 9).replaced.empty());
  EXPECT_EQ(transfer(source, small_net(4), Head::kReplace, 9).replaced.size(), 2U);
}

TEST(Transfer, ListsWhatDoesNotFit) {
  const auto source = nn::initial_state(small_net(4), 1);
  try {
    transfer(source, small_net(7), Head::kKeep, 9);
    FAIL() << "a head of another shape was kept";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("dense2.weight (7x12 wanted, 4x12 found)"), std::string::npos)
        << e.what();
  }
  auto wider = small_net(4);
  wider.layers[0].settings[0].second = 8;
  EXPECT_THROW(transfer(source, wider, Head::kAuto, 9), Error);
}

TEST(Transfer, GivesATransformerANewHead) {
  const auto spec =
      nn::zoo_model("transformer", {8}, 5, {{"layers", std::int64_t{1}}, {"width", std::int64_t{8}}});
  const auto source = nn::initial_state(spec, 1);
  auto target = spec;
  target.classes = 3;
  target.layers.back().settings[0].second = 3;
  const auto result = transfer(source, target, Head::kAuto, 9);
  EXPECT_EQ(result.replaced, (std::vector<std::string>{"head.weight", "head.bias"}));
  const std::string name = "layers.0.self_attn.in_proj_weight";
  EXPECT_TRUE(equal(result.state.values(name), source.values(name)));
}

}  // namespace
}  // namespace impart::share

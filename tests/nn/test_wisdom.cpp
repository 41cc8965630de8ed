// Wisdom: measured choices of kernels.
#include <gtest/gtest.h>

#include "impart/core/error.hpp"
#include "impart/nn/wisdom.hpp"
#include "nn/kernels/wisdom.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

/// Leaves the process without wisdom.
class WisdomTest : public ::testing::Test {
 protected:
  void TearDown() override { use_wisdom({}); }
};

ModelSpec two_convolutions() {
  return model({16, 12, 12}, 4,
               {conv2d(16, 3, 1, 1), layer("relu"), conv2d(24, 3, 2, 1), layer("flatten"), dense(4)});
}

TEST_F(WisdomTest, ChoosesForTheShapesThatItKnows) {
  const auto wisdom = tune(two_convolutions(), 4, 2);
  EXPECT_EQ(kernel_choice(), "the fixed rule");
  use_wisdom(wisdom);
  EXPECT_EQ(kernel_choice().substr(0, 7), "wisdom ");
  ConvGeometry g{.batch = 32,
                 .channels = 16,
                 .height = 12,
                 .width = 12,
                 .filters = 16,
                 .out_height = 12,
                 .out_width = 12,
                 .window = {.kernel = 3, .stride = 1, .padding = 1}};
  const auto name = wisdom_choice(g, ConvDirection::kForward);
  EXPECT_FALSE(name.empty());
  EXPECT_EQ(choose_convolution(g, ConvDirection::kForward).name, name);
  // The first layer's data gradient is nobody's, so nobody measured it.
  EXPECT_TRUE(wisdom_choice(g, ConvDirection::kData).empty());
  g.channels = 32;
  EXPECT_TRUE(wisdom_choice(g, ConvDirection::kForward).empty());
  EXPECT_NO_THROW(choose_convolution(g, ConvDirection::kForward));
}

TEST_F(WisdomTest, WhatWasChangedOrIsNoneIsRefused) {
  const auto wisdom = tune(two_convolutions(), 4, 2);
  auto changed = wisdom;
  const auto kernel = changed.find("kernel 3");
  ASSERT_NE(kernel, std::string::npos);
  changed[kernel + 7] = '5';
  EXPECT_THROW(use_wisdom(changed), Error);
  EXPECT_THROW(use_wisdom("[]"), Error);
  EXPECT_THROW(use_wisdom("{}"), Error);
  EXPECT_THROW(use_wisdom("wisdom"), Error);
  EXPECT_EQ(kernel_choice(), "the fixed rule");
  EXPECT_NO_THROW(use_wisdom(wisdom));
}

}  // namespace
}  // namespace impart::nn::testing

#include "impart/core/tensor.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "impart/core/aligned.hpp"
#include "impart/core/error.hpp"

namespace impart {
namespace {

bool is_aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % kAlignment == 0; }

TEST(Shape, CountsElements) {
  EXPECT_EQ((Shape{3, 32, 32}.elements()), 3072);
  EXPECT_EQ(Shape{}.elements(), 1);
  EXPECT_EQ((Shape{4, 0, 2}.elements()), 0);
  EXPECT_EQ((Shape{1 << 20, 1 << 20}.elements()), std::int64_t{1} << 40);
}

TEST(Shape, AddsAndDropsTheBatch) {
  const Shape image{3, 8, 9};
  EXPECT_EQ(image.with_batch(16), (Shape{16, 3, 8, 9}));
  EXPECT_EQ(image.with_batch(16).without_batch(), image);
  EXPECT_EQ(Shape{}.with_batch(2), Shape{2});
}

TEST(Shape, ReadsAsUsersWriteIt) {
  EXPECT_EQ((Shape{3, 32, 32}.str()), "3x32x32");
  EXPECT_EQ(Shape{}.str(), "scalar");
  EXPECT_NE((Shape{2, 3}), (Shape{3, 2}));
  EXPECT_THROW((void)Shape{2}[1], std::out_of_range);
}

TEST(AlignedBuffer, IsAlignedAndZero) {
  for (const std::size_t size : {1U, 3U, 17U, 1000U}) {
    const AlignedBuffer<float> buffer(size);
    EXPECT_TRUE(is_aligned(buffer.data())) << size;
    EXPECT_EQ(std::count(buffer.span().begin(), buffer.span().end(), 0.0F),
              static_cast<std::ptrdiff_t>(size));
  }
  EXPECT_EQ(AlignedBuffer<float>(0).data(), nullptr);
}

TEST(AlignedBuffer, MovesLeaveNothingBehind) {
  AlignedBuffer<float> from(5);
  float* const memory = from.data();
  AlignedBuffer<float> to(std::move(from));
  EXPECT_EQ(to.data(), memory);
  EXPECT_EQ(from.data(), nullptr);  // NOLINT(bugprone-use-after-move): what a move leaves is the test
  EXPECT_EQ(from.size(), 0U);
}

TEST(Tensor, OwnsAlignedZeros) {
  Tensor tensor(Shape{3, 5});
  EXPECT_EQ(tensor.size(), 15);
  EXPECT_TRUE(is_aligned(tensor.data()));
  EXPECT_TRUE(std::ranges::all_of(tensor.values(), [](float v) { return v == 0.0F; }));
}

TEST(Tensor, ViewWritesThrough) {
  std::array<float, 6> memory{1, 2, 3, 4, 5, 6};
  Tensor view = Tensor::view(memory, Shape{2, 3});
  view.values()[4] = 50;
  EXPECT_EQ(memory[4], 50);
  EXPECT_EQ(view.data(), memory.data());
}

TEST(Tensor, ViewMustFit) {
  std::array<float, 6> memory{};
  try {
    (void)Tensor::view(memory, Shape{2, 4});
    FAIL() << "a view of 8 values on 6";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "a view's memory does not fit its shape: expected 2x4, got 6 values");
  }
}

TEST(Tensor, CloneOwnsItsMemory) {
  std::array<float, 2> memory{1, 2};
  const Tensor view = Tensor::view(memory, Shape{2});
  const Tensor copy = view.clone();
  memory[0] = 9;
  EXPECT_EQ(copy.values()[0], 1);
  EXPECT_TRUE(is_aligned(copy.data()));
  EXPECT_EQ(copy.shape(), view.shape());
}

TEST(Tensor, MovesKeepTheMemory) {
  Tensor from(Shape{4});
  from.values()[3] = 7;
  const float* const memory = from.data();
  Tensor to(std::move(from));
  EXPECT_EQ(to.data(), memory);
  EXPECT_EQ(from.size(), 0);  // NOLINT(bugprone-use-after-move): what a move leaves is the test
  Tensor third(Shape{2});
  third = std::move(to);
  EXPECT_EQ(third.data(), memory);
  EXPECT_EQ(third.values()[3], 7);
  EXPECT_EQ(third.shape(), Shape{4});
}

}  // namespace
}  // namespace impart

#include "impart/comm/node_memory.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <string>

#include "impart/core/error.hpp"

namespace impart::comm {
namespace {

TEST(NodeMemory, EachRankHasAPartThatAllRead) {
  const auto node = Comm::world().split_by_node();
  const NodeMemory memory(node, sizeof(int));
  EXPECT_GE(memory.of(node.rank()).size(), sizeof(int));
  EXPECT_EQ(memory.of(node.rank())[0], std::byte{0});
  *reinterpret_cast<int*>(memory.of(node.rank()).data()) = 100 + node.rank();
  node.barrier();
  for (int rank = 0; rank < node.size(); ++rank) {
    EXPECT_EQ(*reinterpret_cast<const int*>(memory.of(rank).data()), 100 + rank);
  }
}

TEST(NodeBuffer, OneWritesAndAllOfTheNodeRead) {
  const auto world = Comm::world();
  const auto node = world.split_by_node();
  constexpr std::size_t kFloats = 1000;
  const NodeBuffer buffer(world, kFloats * sizeof(float));
  ASSERT_EQ(buffer.bytes().size(), kFloats * sizeof(float));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.bytes().data()) % alignof(double), 0U);
  EXPECT_EQ(buffer.is_writer(), node.is_root());
  const std::span<float> values(reinterpret_cast<float*>(buffer.bytes().data()), kFloats);
  if (buffer.is_writer()) std::iota(values.begin(), values.end(), 0.5F);
  buffer.publish();
  for (std::size_t i = 0; i < kFloats; ++i) ASSERT_EQ(values[i], static_cast<float>(i) + 0.5F);
}

TEST(NodeBuffer, MoreThanThereIsFailsOnEveryRank) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer ends the process where `new` would throw";
#endif
  const auto world = Comm::world();
  try {
    const NodeBuffer buffer(world, std::size_t{1} << 50);
    FAIL() << "a pebibyte was found";
  } catch (const Error& e) {
    EXPECT_TRUE(e.is_collective());
    EXPECT_NE(std::string(e.what()).find("memory for the ranks of a node: "), std::string::npos) << e.what();
  }
}

TEST(NodeBuffer, MayBeEmpty) {
  const NodeBuffer buffer(Comm::world(), 0);
  buffer.publish();
  EXPECT_TRUE(buffer.bytes().empty());
}

}  // namespace
}  // namespace impart::comm

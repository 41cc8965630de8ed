#include "impart/comm/comm.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "impart/core/error.hpp"

namespace impart::comm {
namespace {

template <class T>
class CommOf : public testing::Test {};
using Types = testing::Types<float, double, std::int32_t, std::int64_t, std::uint64_t>;
TYPED_TEST_SUITE(CommOf, Types);

TYPED_TEST(CommOf, ReducesAndBroadcasts) {
  const auto world = Comm::world();
  const auto size = static_cast<TypeParam>(world.size());
  const auto rank = static_cast<TypeParam>(world.rank());
  std::array<TypeParam, 2> values{rank, 3};
  world.sum_in_place<TypeParam>(values, "test");
  EXPECT_EQ(values[0], size * (size - 1) / 2);
  EXPECT_EQ(values[1], 3 * size);

  values = {rank, static_cast<TypeParam>(size - rank)};
  world.max_in_place<TypeParam>(values, "test");
  EXPECT_EQ(values[0], size - 1);
  EXPECT_EQ(values[1], size);
  values = {rank, static_cast<TypeParam>(size - rank)};
  world.min_in_place<TypeParam>(values, "test");
  EXPECT_EQ(values[0], 0);
  EXPECT_EQ(values[1], 1);

  for (int root = 0; root < world.size(); ++root) {
    values = {rank, rank};
    world.broadcast<TypeParam>(values, root, "test");
    EXPECT_EQ(values[1], static_cast<TypeParam>(root));
  }
}

TEST(Comm, IsMoveOnlyAndKnowsItself) {
  static_assert(!std::is_copy_constructible_v<Comm> && !std::is_copy_assignable_v<Comm>);
  auto world = Comm::world();
  const int rank = world.rank();
  const int size = world.size();
  Comm moved = std::move(world);
  EXPECT_EQ(moved.rank(), rank);
  EXPECT_EQ(moved.size(), size);
  EXPECT_EQ(moved.is_root(), rank == 0);
  auto other = Comm::self();
  EXPECT_EQ(other.size(), 1);
  other = std::move(moved);
  EXPECT_EQ(other.rank(), rank);
  EXPECT_EQ(other.size(), size);
  other.barrier();
}

TEST(Comm, SplitsByColorInTheOrderOfKeys) {
  const auto world = Comm::world();
  const int color = world.rank() % 2;
  const auto part = world.split(color, -world.rank());  // the highest rank first
  const int members = (world.size() + 1 - color) / 2;
  EXPECT_EQ(part.size(), members);
  EXPECT_EQ(part.rank(), members - 1 - world.rank() / 2);
  std::int64_t sum = world.rank();
  part.sum_in_place(std::span(&sum, 1), "test");
  EXPECT_EQ(sum,
            static_cast<std::int64_t>(members) * (members - 1) + static_cast<std::int64_t>(color) * members);
}

TEST(Comm, BroadcastsTextOfAnyLength) {
  const auto world = Comm::world();
  const int root = world.size() - 1;
  for (const std::string& wanted :
       {std::string(), std::string("x"), std::string("a\0b", 3), std::string(100000, 'y')}) {
    std::string text = world.rank() == root ? wanted : "something else that was here before";
    world.broadcast(text, root, "test");
    EXPECT_EQ(text, wanted);
  }
}

TEST(Comm, BroadcastsBytes) {
  const auto world = Comm::world();
  std::array<std::byte, 3> bytes{};
  if (world.is_root()) bytes = {std::byte{1}, std::byte{0}, std::byte{255}};
  world.broadcast<std::byte>(bytes, 0, "test");
  EXPECT_EQ(bytes[0], std::byte{1});
  EXPECT_EQ(bytes[2], std::byte{255});
}

TEST(Comm, GathersStringsInTheOrderOfRanks) {
  const auto world = Comm::world();
  // Every other rank has nothing to say; the first of those is the root.
  const auto text_of = [](int rank) {
    return rank % 2 == 0 ? std::string() : std::string(rank, 'r') + '\0' + "end";
  };
  const auto texts = world.gather_strings(text_of(world.rank()), "test");
  ASSERT_EQ(texts.size(), world.is_root() ? static_cast<std::size_t>(world.size()) : 0U);
  for (std::size_t rank = 0; rank < texts.size(); ++rank)
    EXPECT_EQ(texts[rank], text_of(static_cast<int>(rank)));

  const auto none = world.gather_strings("", "test");
  EXPECT_TRUE(std::ranges::all_of(none, [](const auto& text) { return text.empty(); }));
}

/// What `agree` throws here when the ranks for which `fails` is true call `fail`.
std::optional<Error> agreed(const Comm& comm, const std::function<bool(int)>& fails,
                            const std::function<void()>& fail) {
  try {
    agree(comm, "reading", [&] {
      if (fails(comm.rank())) fail();
    });
  } catch (const Error& e) {
    return e;
  }
  return std::nullopt;
}

TEST(Agree, IsSilentWhenNobodyFails) {
  const auto world = Comm::world();
  int calls = 0;
  agree(world, "counting", [&] { ++calls; });
  EXPECT_EQ(calls, 1);
}

TEST(Agree, AllThrowTheErrorOfTheLowestFailingRank) {
  const auto world = Comm::world();
  const int last = world.size() - 1;
  const auto message = [&] {
    throw Error("no such file").at("rank " + std::to_string(world.rank())).hint("look");
  };
  const std::vector<std::pair<std::function<bool(int)>, int>> cases{
      {[](int rank) { return rank == 0; }, 0},
      {[&](int rank) { return rank == last; }, last},
      {[](int) { return true; }, 0},
      {[&](int rank) { return rank >= last / 2; }, last / 2}};
  for (const auto& [fails, lowest] : cases) {
    const auto error = agreed(world, fails, message);
    ASSERT_TRUE(error);
    EXPECT_EQ(error->what(), "reading: rank " + std::to_string(lowest) + ": no such file (look)");
    EXPECT_TRUE(error->is_collective());
    EXPECT_EQ(error->kind(), ErrorKind::kRun);
  }
}

TEST(Agree, CarriesTheKind) {
  const auto world = Comm::world();
  const auto last = [&](int rank) { return rank == world.size() - 1; };
  const auto error = agreed(world, last, [] { throw Error("unknown key", ErrorKind::kUsage); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind(), ErrorKind::kUsage);
}

TEST(Agree, TakesAnythingThatIsThrown) {
  const auto world = Comm::world();
  const auto last = [&](int rank) { return rank == world.size() - 1; };
  const auto standard = agreed(world, last, [] { throw std::out_of_range("index 7"); });
  ASSERT_TRUE(standard);
  EXPECT_STREQ(standard->what(), "reading: index 7");
  const auto odd = agreed(world, last, [] { throw 7; });
  ASSERT_TRUE(odd);
  EXPECT_STREQ(odd->what(), "reading: an unknown exception");
  world.barrier();  // the ranks are still in step
}

TEST(WorkAlone, OneWorksWhileTheOthersSleep) {
  const auto world = Comm::world();
  for (int worker = 0; worker < world.size(); ++worker) {
    world.barrier();
    const auto start = std::chrono::steady_clock::now();
    const auto cpu = std::clock();  // of this process
    bool worked = false;
    work_alone(world, worker, "visit", [&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      worked = true;
    });
    const double seconds = static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC;
    EXPECT_EQ(worked, world.rank() == worker);
    EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(300)) << "did not wait";
    EXPECT_LT(seconds, 0.15) << "waited awake";
  }
}

TEST(WorkAlone, AllThrowWhatTheOneThrows) {
  const auto world = Comm::world();
  const int last = world.size() - 1;
  try {
    work_alone(world, last, "visit", [] { throw Error("no such file"); });
    FAIL() << "nobody threw";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "visit: no such file");
    EXPECT_TRUE(e.is_collective());
  }
  world.barrier();  // the ranks are still in step
}

}  // namespace
}  // namespace impart::comm

#include "impart/comm/mesh.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "impart/core/error.hpp"

namespace impart::comm {
namespace {

std::string message_of(const MeshShape& shape, int ranks) {
  try {
    fit_mesh(shape, ranks);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    return e.what();
  }
  return "";
}

TEST(MeshShape, MultipliesToTheRanks) {
  EXPECT_EQ(fit_mesh({}, 4), (MeshShape{.data = 4}));
  EXPECT_EQ(fit_mesh({.tensor = 2}, 6), (MeshShape{.data = 3, .tensor = 2}));
  EXPECT_EQ(fit_mesh({.data = 2, .tensor = 2}, 4), (MeshShape{.data = 2, .tensor = 2}));
  EXPECT_NE(message_of({.data = 2, .tensor = 2}, 8).find("expected 8 ranks, got 2 x 1 x 2"),
            std::string::npos);
  EXPECT_EQ(message_of({.tensor = 3}, 4),
            "mesh.tensor = 3 does not divide 4 ranks: expected 1, 2 or 4 (or a multiple of 3 ranks)");
  EXPECT_EQ(message_of({.tensor = 4}, 2),
            "mesh.tensor = 4 does not divide 2 ranks: expected 1 or 2 (or a multiple of 4 ranks)");
  EXPECT_EQ(describe({.data = 2}), "data=2");
  EXPECT_EQ(describe({.data = 2, .tensor = 4}), "data=2 tensor=4");
}

TEST(Mesh, NeighboursShareATensorAxis) {
  const auto world = Comm::world();
  for (const int tensor : {1, 2, 4}) {
    if (world.size() % tensor != 0) continue;
    const Mesh mesh(world, {.tensor = tensor});
    EXPECT_EQ(mesh.shape(), (MeshShape{.data = world.size() / tensor, .tensor = tensor}));
    EXPECT_EQ(mesh.tensor().size(), tensor);
    EXPECT_EQ(mesh.tensor().rank(), world.rank() % tensor);
    EXPECT_EQ(mesh.data().size(), world.size() / tensor);
    EXPECT_EQ(mesh.data().rank(), world.rank() / tensor);
    EXPECT_EQ(mesh.pipeline().size(), 1);
    std::array<float, 1> sum{static_cast<float>(world.rank())};
    mesh.tensor().sum_in_place<float>(sum, "test");
    float expected = 0;
    for (int k = 0; k < tensor; ++k) expected += static_cast<float>(world.rank() / tensor * tensor + k);
    EXPECT_EQ(sum[0], expected);
  }
  EXPECT_THROW(Mesh(world, {.data = world.size() + 1}), Error);
}

TEST(Mesh, OneRankIsAloneOnEveryAxis) {
  const auto self = Comm::self();
  const Mesh mesh(self, {});
  EXPECT_EQ(mesh.shape(), (MeshShape{.data = 1}));
  for (const auto* axis : {&mesh.all(), &mesh.data(), &mesh.pipeline(), &mesh.tensor()}) {
    EXPECT_EQ(axis->size(), 1);
  }
}

TEST(Comm, GathersFromAll) {
  const auto world = Comm::world();
  const std::array<float, 2> mine{static_cast<float>(world.rank()), 7};
  std::vector<float> all(2 * static_cast<std::size_t>(world.size()));
  world.gather_all<float>(mine, all, "test");
  for (std::size_t rank = 0; rank < all.size() / 2; ++rank) {
    EXPECT_EQ(all[2 * rank], static_cast<float>(rank));
    EXPECT_EQ(all[2 * rank + 1], 7);
  }
}

}  // namespace
}  // namespace impart::comm

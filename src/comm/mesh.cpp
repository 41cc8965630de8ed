#include "impart/comm/mesh.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "impart/comm/shards.hpp"
#include "impart/core/counted.hpp"
#include "impart/core/error.hpp"

namespace impart::comm {

namespace {

/// This rank's place when ranks of one node stand together, nodes in the order of their first ranks.
int place_by_node(const Comm& comm) {
  const auto node = comm.split_by_node();
  auto leader = static_cast<std::int32_t>(comm.rank());
  node.broadcast(std::span(&leader, 1), 0, "mesh");
  const auto first = comm.gather_all(leader, "mesh");  // of each rank's node
  int place = 0;
  for (int rank = 0; rank < comm.size(); ++rank) {
    const auto theirs = first[static_cast<std::size_t>(rank)];
    if (theirs < leader || (theirs == leader && rank < comm.rank())) ++place;
  }
  return place;
}

/// The ranks that differ from this one along one axis only. `stride`: how far apart they stand.
Comm along(const Comm& comm, int place, int stride, int extent) {
  if (extent == 1) return Comm::self();
  const int coordinate = place / stride % extent;
  return comm.split(place - coordinate * stride, coordinate);
}

/// "1, 2 or 4"
std::string one_of(const std::vector<int>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const bool last = i + 1 == numbers.size();
    text += i == 0 ? "" : last ? " or " : ", ";
    text += std::to_string(numbers[i]);
  }
  return text;
}

}  // namespace

MeshShape fit_mesh(const MeshShape& shape, int ranks) {
  const int others = shape.pipeline * shape.tensor;
  MeshShape fitted = shape;
  if (fitted.data == 0) fitted.data = std::max(1, ranks / others);
  if (fitted.data * others == ranks) return fitted;
  if (shape.data == 0) {
    const auto tensor = std::to_string(shape.tensor);
    throw Error("mesh.tensor = " + tensor + " does not divide " + counted(ranks, "rank"), ErrorKind::kUsage)
        .expected(one_of(allowed_rank_counts(ranks)))
        .hint("or a multiple of " + tensor + " ranks");
  }
  throw Error("the mesh does not have as many places as there are ranks", ErrorKind::kUsage)
      .expected(counted(ranks, "rank"))
      .got(std::to_string(shape.data) + " x " + std::to_string(shape.pipeline) + " x " +
           std::to_string(shape.tensor) + " (data, pipeline, tensor)")
      .hint("leave `data` out, and it is what the ranks allow");
}

std::string describe(const MeshShape& shape) {
  std::string text = "data=" + std::to_string(shape.data);
  if (shape.pipeline > 1) text += " pipeline=" + std::to_string(shape.pipeline);
  if (shape.tensor > 1) text += " tensor=" + std::to_string(shape.tensor);
  return text;
}

Mesh::Mesh(const Comm& comm, const MeshShape& shape)
    : all_(comm), data_(Comm::self()), pipeline_(Comm::self()), tensor_(Comm::self()) {
  try {
    shape_ = fit_mesh(shape, comm.size());
  } catch (Error& e) {
    throw std::move(e).collective();
  }
  if (comm.size() == 1) return;
  const int place = place_by_node(comm);
  tensor_ = along(comm, place, 1, shape_.tensor);
  pipeline_ = along(comm, place, shape_.tensor, shape_.pipeline);
  data_ = along(comm, place, shape_.tensor * shape_.pipeline, shape_.data);
}

}  // namespace impart::comm

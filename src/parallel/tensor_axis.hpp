// TensorAxis: what the ranks that share a model's tensors tell each other.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/comm/tree_reducer.hpp"

namespace impart::parallel {

/// Sums and gathers between the ranks of a tensor axis. All results are the same bits on all of them, and of
/// a sample the same whatever else is in the batch.
class TensorAxis {
 public:
  explicit TensorAxis(const comm::Comm& comm);  ///< borrows `comm`

  /// Element-wise sum over the ranks, in place.
  void sum(std::span<float> values);
  void sum(std::span<double> values);
  /// Element-wise maximum, in place.
  void max(std::span<double> values);
  /// Rows of `whole` (rows, ranks * width) become the ranks' rows of `part` (rows, width) side by side.
  void gather(std::span<const float> part, std::size_t width, std::span<float> whole);

  /// Spent in calls.
  [[nodiscard]] double seconds() const noexcept { return seconds_; }

 private:
  const comm::Comm& comm_;
  comm::TreeReducer<float> floats_;
  comm::TreeReducer<double> doubles_;
  std::vector<float> parts_;  // (ranks, rows, width)
  double seconds_ = 0;
};

/// The same rows of `whole` (rows, ranks * width) that rank `index` of `ranks` gave to TensorAxis::gather.
void take_part(std::span<const float> whole, std::size_t index, std::size_t ranks, std::size_t width,
               std::span<float> part);

}  // namespace impart::parallel

// MemoryPlan: buffers whose lives do not overlap share memory.
#pragma once

#include <cstddef>
#include <vector>

namespace impart::nn {

/// Places of float arrays in one block of memory. Each array is needed from one moment to another; those that
/// are never needed at the same moment may get the same place. Largest first, each at the lowest free place
/// (Pisarchyk and Lee 2020, "greedy by size").
class MemoryPlan {
 public:
  /// `count` floats from moment `first` to moment `last`, both included. Returns the array's number.
  std::size_t add(std::size_t count, int first, int last);
  /// Makes an array's life longer: it is needed from `first` to `last`, too.
  void extend(std::size_t array, int first, int last);
  /// After the last `add`: decides all places.
  void place();

  /// Offset of an array in floats, a multiple of a cache line.
  [[nodiscard]] std::size_t offset(std::size_t array) const { return arrays_[array].offset; }
  [[nodiscard]] std::size_t size(std::size_t array) const { return arrays_[array].count; }
  /// Floats of the whole block.
  [[nodiscard]] std::size_t total() const noexcept { return total_; }

 private:
  struct Array {
    std::size_t count = 0;
    int first = 0;
    int last = 0;
    std::size_t offset = 0;
  };

  std::vector<Array> arrays_;
  std::size_t total_ = 0;
};

}  // namespace impart::nn

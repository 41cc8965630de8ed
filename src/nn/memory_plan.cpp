#include "nn/memory_plan.hpp"

#include <algorithm>
#include <numeric>

#include "impart/core/aligned.hpp"

namespace impart::nn {

namespace {

constexpr std::size_t kLine = kAlignment / sizeof(float);

}  // namespace

std::size_t MemoryPlan::add(std::size_t count, int first, int last) {
  arrays_.push_back({(count + kLine - 1) / kLine * kLine, first, last, 0});
  return arrays_.size() - 1;
}

void MemoryPlan::extend(std::size_t array, int first, int last) {
  arrays_[array].first = std::min(arrays_[array].first, first);
  arrays_[array].last = std::max(arrays_[array].last, last);
}

void MemoryPlan::place() {
  std::vector<std::size_t> order(arrays_.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return arrays_[a].count > arrays_[b].count; });
  total_ = 0;
  std::vector<const Array*> placed;  // by offset
  for (const auto index : order) {
    auto& array = arrays_[index];
    array.offset = 0;
    for (const auto* other : placed) {
      if (other->last < array.first || array.last < other->first) continue;
      if (array.offset + array.count <= other->offset) break;
      array.offset = std::max(array.offset, other->offset + other->count);
    }
    total_ = std::max(total_, array.offset + array.count);
    const auto at = std::upper_bound(placed.begin(), placed.end(), array.offset,
                                     [](std::size_t offset, const Array* a) { return offset < a->offset; });
    placed.insert(at, &array);
  }
}

}  // namespace impart::nn

#include "impart/core/summation_tree.hpp"

#include <algorithm>
#include <bit>

namespace impart {

namespace {

template <class T>
void add(std::span<T> into, std::span<const T> values) {
  for (std::size_t i = 0; i < into.size(); ++i) into[i] += values[i];
}

/// Of the part that begins there; parts.size() when there is none.
std::size_t number_of(std::span<const ShardRange> parts, int begin) {
  return static_cast<std::size_t>(std::ranges::find(parts, begin, &ShardRange::begin) - parts.begin());
}

}  // namespace

int folds_after(int shard, ShardRange range, int shards) {
  int odd = shards;  // the size of the blocks that are summed from left to right
  while (odd % 2 == 0) odd /= 2;
  const int place = shard % odd;
  int folds = place > 0 && shard - place >= range.begin ? 1 : 0;
  if (place + 1 < odd) return folds;
  // The block is complete; with each right half, so is the block that is twice as large.
  const int end = shard + 1;
  for (int number = shard / odd, size = odd; number % 2 == 1; number /= 2, size *= 2) {
    if (end - 2 * size < range.begin) break;
    ++folds;
  }
  return folds;
}

std::vector<ShardRange> partial_sums(ShardRange range, int shards) {
  std::vector<ShardRange> stack;
  for (int shard = range.begin; shard < range.end; ++shard) {
    stack.push_back({shard, shard + 1});
    for (int fold = folds_after(shard, range, shards); fold > 0; --fold) {
      stack.pop_back();
      stack.back().end = shard + 1;
    }
  }
  return stack;
}

int stack_depth(ShardRange range, int shards) {
  int depth = 0;
  int most = 0;
  for (int shard = range.begin; shard < range.end; ++shard) {
    most = std::max(most, ++depth);
    depth -= folds_after(shard, range, shards);
  }
  return most;
}

std::vector<Addition> additions(std::span<const ShardRange> parts, int shards) {
  std::vector<Addition> result;
  if (parts.empty()) return result;
  const ShardRange range{parts.front().begin, parts.back().end};
  std::vector<int> stack;  // where its sums begin
  for (int shard = range.begin; shard < range.end; ++shard) {
    stack.push_back(shard);
    for (int fold = folds_after(shard, range, shards); fold > 0; --fold) {
      const int from = stack.back();
      stack.pop_back();
      // Within a part, it has been done already.
      const auto found = number_of(parts, from);
      if (found < parts.size()) result.push_back({number_of(parts, stack.back()), found});
    }
  }
  return result;
}

std::vector<std::size_t> left_after_additions(std::span<const ShardRange> parts, int shards) {
  std::vector<std::size_t> left;
  for (const auto sum : partial_sums({parts.front().begin, parts.back().end}, shards)) {
    left.push_back(number_of(parts, sum.begin));
  }
  return left;
}

template <class T>
std::vector<std::span<T>> join_parts(std::span<const ShardRange> ranges, int shards,
                                     const std::vector<std::span<T>>& parts) {
  std::vector<ShardRange> summed;
  for (const auto range : ranges) {
    for (const auto part : partial_sums(range, shards)) summed.push_back(part);
  }
  for (const auto [into, from] : additions(summed, shards)) add<T>(parts[into], parts[from]);
  std::vector<std::span<T>> left;
  for (const auto number : left_after_additions(summed, shards)) left.push_back(parts[number]);
  return left;
}

template <class T>
void sum_shards(ShardRange range, int shards, std::type_identity_t<std::span<const std::span<T>>> stack,
                const std::type_identity_t<std::function<void(int shard, std::span<T> out)>>& compute) {
  std::size_t top = 0;
  for (int shard = range.begin; shard < range.end; ++shard) {
    compute(shard, stack[top]);
    for (int fold = folds_after(shard, range, shards); fold > 0; --fold, --top) {
      add<T>(stack[top - 1], stack[top]);
    }
    ++top;
  }
}

template std::vector<std::span<float>> join_parts(std::span<const ShardRange>, int,
                                                  const std::vector<std::span<float>>&);
template std::vector<std::span<double>> join_parts(std::span<const ShardRange>, int,
                                                   const std::vector<std::span<double>>&);
template void sum_shards<float>(ShardRange, int, std::span<const std::span<float>>,
                                const std::function<void(int, std::span<float>)>&);
template void sum_shards<double>(ShardRange, int, std::span<const std::span<double>>,
                                 const std::function<void(int, std::span<double>)>&);

std::int64_t ShardTree::partial_floats(std::int64_t shards, std::int64_t size) {
  return size * (std::bit_width(static_cast<std::uint64_t>(shards)) - 1);
}

void ShardTree::put() {
  const ShardRange range{0, done_ + 1};
  ++waiting_;
  // Powers of two differ in no odd factor, so 1 stands for all of them.
  for (int fold = folds_after(done_, range, 1); fold > 0; --fold) {
    --waiting_;
    const auto size = static_cast<std::size_t>(size_);
    add<float>({level(waiting_ - 1), size}, {level(waiting_), size});
  }
  ++done_;
}

}  // namespace impart

// StateDict: the named tensors of a model in one contiguous arena.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "impart/core/aligned.hpp"
#include "impart/core/tensor.hpp"

namespace impart {

/// A parameter is changed by an optimizer; a buffer only by statistics (the running mean of a batch norm).
enum class StateKind { kParameter, kBuffer };

/// One named tensor and its place in the arena.
struct StateEntry {
  std::string name;  ///< as torchvision names it: "layer1.0.conv1.weight"
  Shape shape;
  StateKind kind = StateKind::kParameter;
  std::size_t offset = 0;  ///< in floats from the arena's start; a multiple of 16 (one cache line)
};

/// Which tensors a model has: names, shapes, kinds, in the order in which they were added.
///
/// All parameters come first in the arena and all buffers after them, so that an optimizer sees one span and
/// a reduction another. The floats between two tensors are padding: always zero.
class StateLayout {
 public:
  /// `entries` in order; offsets are assigned here.
  /// Throws Error when two entries share a name.
  explicit StateLayout(std::vector<StateEntry> entries);
  StateLayout(StateLayout&&) = default;  // a copy's index would point into the original's names
  StateLayout& operator=(StateLayout&&) = default;

  [[nodiscard]] std::span<const StateEntry> entries() const noexcept { return entries_; }
  [[nodiscard]] const StateEntry* find(std::string_view name) const noexcept;
  /// Floats of the arena, padding included.
  [[nodiscard]] std::size_t arena_size() const noexcept { return arena_size_; }
  /// Floats of the arena's leading part, which holds the parameters.
  [[nodiscard]] std::size_t parameter_arena_size() const noexcept { return parameter_arena_size_; }
  /// Number of scalar parameters, as users count them (no padding, no buffers).
  [[nodiscard]] std::int64_t parameter_count() const noexcept;

  /// Empty when both have the same names, shapes and kinds (in any order); else the first difference in
  /// words.
  [[nodiscard]] std::optional<std::string> difference(const StateLayout& other) const;

 private:
  std::vector<StateEntry> entries_;
  std::unordered_map<std::string_view, std::size_t> index_;
  std::size_t arena_size_ = 0;
  std::size_t parameter_arena_size_ = 0;
};

using StateLayoutPtr = std::shared_ptr<const StateLayout>;

/// Values for a layout: the parameters and buffers of a model, their gradients, or an optimizer's state.
/// Owns its arena, or borrows memory that must outlive it; move-only, copies are written out with `clone`.
class StateDict {
 public:
  StateDict() = default;
  explicit StateDict(StateLayoutPtr layout);  ///< zeros
  /// A view on `arena`. REQUIRES: arena.size() == layout->arena_size().
  static StateDict view(StateLayoutPtr layout, std::span<float> arena);

  [[nodiscard]] StateDict clone() const;
  /// Copies all values. REQUIRES: the same layout object or an equal one in the same order.
  void copy_from(const StateDict& other);

  [[nodiscard]] const StateLayout& layout() const noexcept { return *layout_; }
  [[nodiscard]] const StateLayoutPtr& layout_ptr() const noexcept { return layout_; }
  [[nodiscard]] bool empty() const noexcept { return layout_ == nullptr; }

  [[nodiscard]] std::span<float> arena() noexcept { return arena_; }
  [[nodiscard]] std::span<const float> arena() const noexcept { return arena_; }
  [[nodiscard]] std::span<float> parameters() noexcept;
  [[nodiscard]] std::span<const float> parameters() const noexcept;
  [[nodiscard]] std::span<float> buffers() noexcept;
  [[nodiscard]] std::span<const float> buffers() const noexcept;

  /// The values of one tensor. Throws Error when there is none of that name.
  [[nodiscard]] std::span<float> values(std::string_view name);
  [[nodiscard]] std::span<const float> values(std::string_view name) const;
  [[nodiscard]] std::span<float> values(const StateEntry& entry);
  [[nodiscard]] std::span<const float> values(const StateEntry& entry) const;

 private:
  StateLayoutPtr layout_;
  AlignedBuffer<float> storage_;
  std::span<float> arena_;
};

}  // namespace impart

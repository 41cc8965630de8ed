// TensorSource: where a model's tensors are, in memory or in a file, read one at a time.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "impart/core/state_dict.hpp"
#include "impart/io/checkpoint.hpp"

namespace impart::share {

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  /// The model's tensors. Offsets in it say nothing about where values are.
  [[nodiscard]] virtual const StateLayoutPtr& layout() const = 0;
  /// The values of `entry`, which may be of another layout: it is found by its name. They are where the source
  /// has them, or in `scratch`, and good until either changes. Throws Error.
  virtual std::span<const float> read(const StateEntry& entry, std::vector<float>& scratch) const = 0;
};

/// In memory; the state is borrowed.
class StateSource final : public TensorSource {
 public:
  explicit StateSource(const StateDict& state) : state_(state) {}
  [[nodiscard]] const StateLayoutPtr& layout() const override { return state_.layout_ptr(); }
  std::span<const float> read(const StateEntry& entry, std::vector<float>& scratch) const override;

 private:
  const StateDict& state_;
};

/// In a checkpoint, of which one tensor at a time is read and verified.
class CheckpointSource final : public TensorSource {
 public:
  explicit CheckpointSource(const std::filesystem::path& path) : reader_(path) {}
  [[nodiscard]] const io::CheckpointReader& reader() const noexcept { return reader_; }
  [[nodiscard]] const StateLayoutPtr& layout() const override { return reader_.layout(); }
  std::span<const float> read(const StateEntry& entry, std::vector<float>& scratch) const override;

 private:
  io::CheckpointReader reader_;
};

}  // namespace impart::share

// TrainedParameters: the parameters that a run changes, cut into pieces that threads share.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "impart/core/state_dict.hpp"
#include "impart/core/worker_team.hpp"

namespace impart::train {

/// `sums` are over the values that this rank has of the tensors of these names; afterwards, over all values.
using SumParts = std::function<void(std::span<const std::string> names, std::span<double> sums)>;

/// Whether the parameter of that name is trained; empty: all are.
using IsTrained = std::function<bool(const std::string& parameter)>;

/// What is done to parameters runs through here, so that it has the same bits for any number of threads: a
/// piece is worked by one thread, and sums go over pieces in their order.
class TrainedParameters {
 public:
  /// A part of a tensor that stays in a core's cache.
  struct Piece {
    std::size_t parameter = 0;  // its tensor's index in entries()
    std::size_t begin = 0;      // in the arena
    std::size_t size = 0;
  };

  /// `team`: the threads that share the work; borrowed; null: the calling thread alone.
  /// `sum_parts`: for tensors of which other ranks have other parts; empty: all are whole.
  TrainedParameters(StateLayoutPtr layout, const IsTrained& is_trained, WorkerTeam* team = nullptr,
                    SumParts sum_parts = {});

  [[nodiscard]] const StateLayoutPtr& layout() const noexcept { return layout_; }
  /// In the order of the arena.
  [[nodiscard]] std::span<const StateEntry> entries() const noexcept { return entries_; }

  void for_pieces(const std::function<void(const Piece& piece)>& work) const;
  /// For each parameter, the sum of what `measure` says of its pieces, on all ranks that have parts of it.
  [[nodiscard]] std::vector<double> sums(const std::function<double(const Piece& piece)>& measure) const;
  /// For each parameter, what `measure` says of this rank's whole part of it, summed over those ranks.
  [[nodiscard]] std::vector<double> sums_of_tensors(
      const std::function<double(const StateEntry& entry)>& measure) const;

 private:
  void share(std::size_t count, const std::function<void(std::size_t i)>& work) const;

  StateLayoutPtr layout_;
  WorkerTeam* team_;
  SumParts sum_parts_;
  std::vector<StateEntry> entries_;
  std::vector<std::string> names_;
  std::vector<Piece> pieces_;
};

/// Copies values by name: `from` may hold fewer tensors than `to`, such as a checkpoint's, which has no slots
/// for buffers. Throws Error when a tensor is missing or of another size.
void copy_by_name(const StateDict& from, StateDict& to);

}  // namespace impart::train

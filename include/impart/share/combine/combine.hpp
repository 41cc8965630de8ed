// Combining models: a combiner applied to all their tensors, by all ranks together.
#pragma once

#include <span>

#include "impart/comm/comm.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/share/combine/combiner.hpp"
#include "impart/share/combine/tensor_source.hpp"

namespace impart::share {

/// What is combined. All are borrowed.
struct CombineInputs {
  std::span<const TensorSource* const> models;
  const TensorSource* base = nullptr;  ///< for combiners that need one; others do not look at it
};

/// The model that `combiner` makes of the inputs, on every rank, with the tensors in the order of the first
/// one's. Each rank reads, measures and combines some of the tensors, and of those holds one at a time of each
/// model; the result is whole. The bits do not depend on the number of ranks. `shards`: into so many groups
/// the tensors are dealt, whose measures are summed in the fixed tree of core/summation_tree.hpp.
///
/// Collective. Throws Error, on all ranks: no models or too few, a base that is missing, settings that do not
/// fit (usage), layouts that differ, a tensor that cannot be read; and as check_rank_count does.
StateDict combine(const comm::Comm& comm, int shards, Combiner& combiner, const CombineInputs& inputs);

/// The same of models in memory, by the calling thread alone.
StateDict combine(Combiner& combiner, std::span<const StateDict* const> models,
                  const StateDict* base = nullptr);

}  // namespace impart::share

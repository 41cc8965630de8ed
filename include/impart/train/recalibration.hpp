// Recalibration: statistics of batch norms for weights that no training has left.
#pragma once

#include "impart/comm/comm.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/data/batch_loader.hpp"
#include "impart/data/dataset.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/spec.hpp"
#include "impart/train/gradient_engine.hpp"

namespace impart::train {

/// Gives the batch norms of averaged or merged weights the statistics that belong to them: the mean, over the
/// batches of one epoch of `data`, of each batch's (Izmailov et al. 2018, section 3.2), with the unbiased
/// variance. The last batch of an epoch counts only when it is full, or the only one. Batch norms that are
/// frozen in `options` keep theirs, and what is not a batch norm's is left as it is. `objective` is computed
/// and not used; `more` are the further streams that it reads. Collective; the same bits on any number of ranks. Throws as GradientEngine does.
void recalibrate_batch_norm(const comm::Comm& comm, const nn::ModelSpec& spec, const nn::Objective& objective,
                            const EngineOptions& options, const data::DatasetPtr& data, StateDict& state,
                            const std::vector<data::Stream>& more = {});

}  // namespace impart::train

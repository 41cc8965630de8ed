// Outputs and metrics of a model over a dataset, spread over ranks and threads.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "impart/comm/comm.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/core/tensor.hpp"
#include "impart/data/dataset.hpp"
#include "impart/metrics/metric.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/spec.hpp"

namespace impart::train {

/// Samples in one forward pass of an evaluation. Fixed, so that a sample's output does not depend on how many
/// ranks there are.
inline constexpr std::int64_t kEvaluationBatch = 64;

/// Outputs (logits) of every sample of `dataset`, (size, classes), on every rank. Of a sequence model, a
/// sample has several rows: (size * rows of a sample, classes). Collective.
Tensor predict(const comm::Comm& comm, const nn::ModelSpec& spec, const StateDict& state,
               const data::Dataset& dataset, int threads);

/// "loss" and `wanted` of outputs, a row for each label, against the labels of `dataset`. Local; the same bits
/// wherever the outputs are the same. `outputs` are whatever `objective` takes. Throws as Metric::check does.
std::map<std::string, double> classification_metrics(
    const Tensor& outputs, const data::Dataset& dataset, const nn::Objective& objective,
    std::span<const metrics::MetricPtr> wanted = metrics::default_metrics());

}  // namespace impart::train

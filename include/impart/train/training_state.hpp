// What is trained: a model's tensors, and behind them those of its objective's parts.
#pragma once

#include <cstdint>

#include "impart/core/state_dict.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/spec.hpp"

namespace impart::train {

/// The layout of ObjectiveNeeds::parts alone.
StateLayoutPtr part_layout(const nn::ObjectiveNeeds& needs);

/// The model's tensors, and those of the parts: parameters behind its parameters, buffers behind its buffers.
/// Throws Error (usage) when a part has a name of the model's.
StateLayoutPtr training_layout(const nn::ModelSpec& spec, const nn::ObjectiveNeeds& needs);

/// The values of `model`, and initial ones of the parts: a pure function of the seed and their names.
StateDict training_state(const nn::ModelSpec& spec, const nn::ObjectiveNeeds& needs, const StateDict& model,
                         std::uint64_t seed);
/// Back: the values that are the model's.
void take_model(const StateDict& trained, StateDict& model);

}  // namespace impart::train

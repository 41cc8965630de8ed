// The kinds of stages; stage_kinds.cpp has the table.
#pragma once

#include <memory>

#include "impart/core/settings.hpp"
#include "impart/stages/stage.hpp"

namespace impart::stages {

std::unique_ptr<Stage> make_train(Settings& settings, const Deck& deck);
std::unique_ptr<Stage> make_transfer(Settings& settings, const Deck& deck);
std::unique_ptr<Stage> make_merge(Settings& settings, const Deck& deck);
std::unique_ptr<Stage> make_ensemble(Settings& settings, const Deck& deck);
std::unique_ptr<Stage> make_distil(Settings& settings, const Deck& deck);
std::unique_ptr<Stage> make_federate(Settings& settings, const Deck& deck);
std::unique_ptr<Stage> make_evaluate(Settings& settings, const Deck& deck);

/// A list of at least so many stages or files.
void read_inputs(Settings& settings, std::string_view key, std::vector<std::string>& inputs,
                 std::size_t least, std::string_view text);
/// One weight for each input, not all zero, or none.
void read_weights(Settings& settings, std::vector<double>& weights, std::size_t inputs, const Range& range,
                  std::string_view text);
/// Uses of `models` with these weights (empty: all 1), and of a dataset, if it is named.
StageUses uses_of(const std::vector<std::string>& models, const std::vector<double>& weights,
                  const char* role, const std::string& dataset);

}  // namespace impart::stages

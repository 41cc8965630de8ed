// The kinds of stages; kinds.cpp has the table.
#pragma once

#include <memory>
#include <optional>

#include "impart/stages/stage.hpp"
#include "stages/toml_reader.hpp"

namespace impart::stages {

std::unique_ptr<Stage> make_train(const StageSettings& settings);
std::unique_ptr<Stage> make_transfer(const StageSettings& settings);
std::unique_ptr<Stage> make_merge(const StageSettings& settings);
std::unique_ptr<Stage> make_ensemble(const StageSettings& settings);
std::unique_ptr<Stage> make_distil(const StageSettings& settings);
std::unique_ptr<Stage> make_federate(const StageSettings& settings);
std::unique_ptr<Stage> make_evaluate(const StageSettings& settings);

/// `deck` has all but the stages from this one on. Nothing when the name is missing. A kind that is missing
/// or unknown is left empty. Both are problems.
std::optional<StageSettings> read_stage(TableReader& table, const Deck& deck);

}  // namespace impart::stages

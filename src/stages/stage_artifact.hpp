// What a stage leaves in the run directory, with its lineage.
#pragma once

#include <filesystem>
#include <string>

#include "impart/stages/stage.hpp"
#include "stages/run_context.hpp"

namespace impart::stages {

/// Relative to the run directory.
std::filesystem::path artifact_name(const Stage& stage);

/// The digest of a finished stage's artifact, verified; empty when there is none. Local.
std::string verified_digest(const RunContext& context, const Stage& stage);

/// Returns the artifact's digest, on every rank. Collective over the stage's ranks.
std::string write_artifact(RunContext& context, const Stage& stage, const StageResult& result);

}  // namespace impart::stages

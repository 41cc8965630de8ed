// What a stage leaves in the run directory, with its lineage.
#pragma once

#include <filesystem>
#include <string>

#include "impart/stages/run_context.hpp"
#include "impart/stages/stage.hpp"

namespace impart::runner {

/// Relative to the run directory.
std::filesystem::path artifact_name(const stages::Stage& stage);

/// The settings that an artifact was made with, as resolved_settings gives them. Throws Error when it cannot be
/// read. Local.
std::string made_with(const std::filesystem::path& artifact, stages::ArtifactType type);

/// The digest of a finished stage's artifact, verified; empty when there is none. Local.
std::string verified_digest(const stages::RunContext& context, const stages::Stage& stage);

/// Returns the artifact's digest, on every rank. Collective over the stage's ranks.
std::string write_artifact(stages::RunContext& context, const stages::Stage& stage,
                           const stages::StageResult& result);

}  // namespace impart::runner

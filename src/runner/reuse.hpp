// Reuse: what earlier runs left in the run directory, where it still holds.
#pragma once

#include <optional>
#include <string>

#include "impart/stages/run_context.hpp"
#include "impart/stages/stage.hpp"
#include "runner/run_record.hpp"

namespace impart::runner {

/// stage_key of the stage, once all that it reads is there. Throws Error when that is not so. Collective.
std::string key_of(stages::RunContext& context, const stages::Stage& stage);

/// Takes the finished stage's artifact, if its key and digest hold, and puts that on record. Returns the
/// record, which only the root knows (empty elsewhere); nothing when the stage has to run. Collective.
std::optional<StageRecord> reuse(stages::RunContext& context, RunRecord& record, const stages::Stage& stage,
                                 const std::string& key);

/// A stage that was not asked for: what it left, if it is there, serves those that were; of what the deck has
/// changed since, a warning tells when it `is_needed`. Collective.
void adopt(stages::RunContext& context, const RunRecord& record, const stages::Stage& stage, bool is_needed);

}  // namespace impart::runner

// What a stage's result depends on, and its digest: the key by which a finished stage is known again.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "impart/stages/deck.hpp"
#include "impart/stages/stage.hpp"

namespace impart::runner {

/// JSON: {"stage", "models", "datasets", "seed", "shards"}: all settings that bear on the result, with the
/// models and datasets that the stage names. Stored in its checkpoint.
std::string resolved_settings(const stages::Deck& deck, const stages::Stage& stage);

/// Where the settings `then`, as resolved_settings gives them, differ from `now`: "stage.epochs 2 -> 5".
std::vector<std::string> changed_settings(const std::string& then, const std::string& now);

/// Digest of the settings, the inputs' digests and the data's fingerprints. Neither file names nor the
/// numbers of ranks and threads are in it: the result does not depend on them. `inputs`, `data`: by the names
/// in the deck.
std::string stage_key(const stages::Deck& deck, const stages::Stage& stage,
                      const std::map<std::string, std::string>& inputs,
                      const std::map<std::string, std::string>& data);

}  // namespace impart::runner

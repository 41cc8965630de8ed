#include "runner/reuse.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "impart/runner/runner.hpp"
#include "runner/stage_artifact.hpp"
#include "runner/stage_key.hpp"

namespace impart::runner {

namespace {

/// Digests of what the stage reads. Collective.
std::map<std::string, std::string> input_digests(stages::RunContext& context, const stages::Stage& stage) {
  std::map<std::string, std::string> digests;
  for (const auto& use : stage.uses().artifacts) {
    if (stages::is_checkpoint_file(use.name)) {
      context.model(use.name);  // reads the file, once
    } else if (context.find(use.name) == nullptr) {
      throw Error(fmt::format("the artifact of stage '{}' is not there", use.name), ErrorKind::kUsage)
          .at("stage " + stage.name())
          .hint("run that stage first, or leave --stages out")
          .collective();
    }
    digests[use.name] = context.find(use.name)->digest;
  }
  return digests;
}

std::map<std::string, std::string> data_fingerprints(stages::RunContext& context,
                                                     const stages::Stage& stage) {
  std::map<std::string, std::string> prints;
  for (const auto& name : stage.uses().datasets) prints[name] = context.data(name).fingerprint;
  return prints;
}

/// What an artifact was made with may no longer be what the deck says. Local.
void warn_of_changes(const stages::RunContext& context, const stages::Stage& stage,
                     const std::filesystem::path& artifact) {
  const auto settings = made_with(artifact, stage.leaves());
  const auto changes = changed_settings(settings, resolved_settings(context.deck(), stage));
  if (changes.empty()) return;
  log::warn(
      fmt::format("{}: its result is used as it is, but the deck has changed since: {} (to make it anew, "
                  "add the stage to --stages)",
                  stage.name(), fmt::join(changes, ", ")));
}

/// Whether the artifact is there, and of the deck's settings. Local.
bool holds(const stages::Deck& deck, const stages::Stage& stage) {
  const auto artifact = deck.run_directory() / artifact_name(stage);
  std::error_code ignored;
  if (!std::filesystem::exists(artifact, ignored)) return false;
  try {
    return changed_settings(made_with(artifact, stage.leaves()), resolved_settings(deck, stage)).empty();
  } catch (const Error&) {
    return false;  // damaged: it is made anew
  }
}

/// Gives all ranks the artifact that the root has found: its digest, or nothing. Collective.
bool share_artifact(stages::RunContext& context, const stages::Stage& stage, std::string digest,
                    const char* hint) {
  context.comm().broadcast(digest, 0, hint);
  if (digest.empty()) return false;
  context.put(stage.name(), {context.deck().run_directory() / artifact_name(stage), digest});
  return true;
}

}  // namespace

std::vector<std::string> finished_stages(const stages::Deck& deck) {
  // A directory that cannot be read is told by the check.
  std::error_code ignored;
  if (!std::filesystem::exists(deck.run_directory() / "run.json", ignored)) return {};
  RunRecord record(deck.run_directory(), deck, 1, 1);
  record.load();
  std::vector<std::string> finished;
  for (const auto& stage : deck.stages) {
    const auto* before = record.find(stage->name());
    if (stage->common().kind.empty() || before == nullptr || before->digest.empty()) continue;
    const auto uses = stage->uses();
    // Names that the deck does not have are told by the check.
    const bool known = std::ranges::all_of(
                           uses.models, [&](const auto& name) { return deck.find_model(name) != nullptr; }) &&
                       std::ranges::all_of(uses.datasets, [&](const auto& name) {
                         return deck.find_dataset(name) != nullptr;
                       });
    const bool inputs_hold = std::ranges::all_of(uses.artifacts, [&](const stages::ArtifactUse& use) {
      return stages::is_checkpoint_file(use.name) || std::ranges::find(finished, use.name) != finished.end();
    });
    if (known && inputs_hold && holds(deck, *stage)) finished.push_back(stage->name());
  }
  return finished;
}

std::string key_of(stages::RunContext& context, const stages::Stage& stage) {
  const auto inputs = input_digests(context, stage);
  return stage_key(context.deck(), stage, inputs, data_fingerprints(context, stage));
}

std::optional<StageRecord> reuse(stages::RunContext& context, RunRecord& record, const stages::Stage& stage,
                                 const std::string& key) {
  StageRecord reused;
  comm::agree(context.comm(), stage.name(), [&] {
    const auto* found = context.comm().is_root() ? record.find(stage.name()) : nullptr;
    if (found == nullptr || found->key != key || found->digest.empty()) return;
    if (verified_digest(context, stage) != found->digest) return;
    reused = *found;
    reused.status = "reused";
    record.put(reused);
  });
  if (!share_artifact(context, stage, reused.digest, "reuse")) return std::nullopt;
  log::info(fmt::format("{}: reused", stage.name()));
  return reused;
}

void adopt(stages::RunContext& context, const RunRecord& record, const stages::Stage& stage, bool is_needed) {
  std::string digest;
  comm::agree(context.comm(), stage.name(), [&] {
    const auto* found = context.comm().is_root() ? record.find(stage.name()) : nullptr;
    if (found == nullptr || found->digest.empty()) return;
    if (verified_digest(context, stage) == found->digest) digest = found->digest;
  });
  if (!share_artifact(context, stage, digest, "adopt")) return;
  if (context.comm().is_root() && is_needed)
    warn_of_changes(context, stage, context.find(stage.name())->path);
}

}  // namespace impart::runner

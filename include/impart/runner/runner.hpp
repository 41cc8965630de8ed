// Check and run a deck: stages in order, finished ones reused, everything on record.
#pragma once

#include <atomic>
#include <cstddef>
#include <string>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/core/progress.hpp"
#include "impart/stages/check_context.hpp"
#include "impart/stages/deck.hpp"
#include "impart/stages/run_context.hpp"
#include "impart/stages/stage.hpp"

namespace impart::runner {

/// Whatever can be known to be wrong before anything runs (decision 7): names, files and their headers,
/// shapes through every layer, classes, batch and rank counts, the output directory, memory and disk space.
/// Adds to `problems`. Returns, a line for each stage that trains, its mesh, each rank's memory by kind, and
/// the bytes that each axis moves in a step; and what settings mean that may surprise. Makes no MPI calls:
/// one rank checks for all.
std::vector<std::string> check_deck(const stages::Deck& deck, const stages::CheckOptions& options,
                                    Problems& problems);

/// check_deck on the root; all problems, those of `problems` too, on every rank. Collective.
std::vector<std::string> check_together(const comm::Comm& comm, const stages::Deck& deck,
                                        const stages::CheckOptions& options, Problems problems);

/// Stages that the run directory holds results of, made with the settings that the deck has now: they will be
/// reused, unless the data have changed, which is not looked at here. Local.
std::vector<std::string> finished_stages(const stages::Deck& deck);

enum class StageStatus : std::uint8_t { kDone, kReused, kFailed, kStopped };

/// What is known of a stage when a run ends.
struct StageSummary {
  std::string name;
  std::string what;
  std::string note;  ///< as StageResult
  StageStatus status = StageStatus::kDone;
  double seconds = 0;
  std::string artifact;  ///< relative to the working directory
  std::map<std::string, double> metrics;
  std::vector<stages::Measurement> measurements;
  std::vector<stages::RankTime> times;  ///< of the ranks that trained
};

struct RunReport {
  bool stopped = false;
  std::vector<StageSummary> stages;
};

/// Runs the stages of `deck`, which check_deck found right. Collective. Writes run.json, metrics.jsonl and
/// the artifacts. Throws Error when a stage fails; it names the stage, and run.json records it.
RunReport run_deck(const comm::Comm& comm, const stages::Deck& deck, const stages::RunOptions& options);

/// The closing table: stage, what, metric, seconds, artifact.
std::string closing_table(const RunReport& report);

}  // namespace impart::runner

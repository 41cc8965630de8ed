// Options: the command line (DESIGN.md, section 4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "impart/comm/reduction.hpp"
#include "impart/core/progress.hpp"

namespace impart::app {

enum class Command : std::uint8_t { kHelp, kVersion, kRun, kCheck, kBench, kPredict, kReference };

struct Options {
  Command command = Command::kHelp;
  std::string help;  ///< what kHelp prints

  std::filesystem::path deck;          ///< run, check
  std::vector<std::string> overrides;  ///< --set
  std::vector<std::string> only;       ///< run: --stages
  bool fresh = false;                  ///< run
  bool trace = false;                  ///< run
  ProgressMode progress = ProgressMode::kAuto;
  int threads = 0;  ///< of each rank; 0: the cores that it may use

  int ranks = 1;                    ///< check
  bool ranks_known = false;         ///< check: --ranks is given
  std::size_t memory_per_rank = 0;  ///< check: bytes; 0: this machine's

  std::string model = "cnn";  ///< bench: a name of the zoo, or DECK:MODEL
  std::int64_t batch = 128;   ///< bench
  std::int64_t steps = 50;    ///< bench
  int shards = 8;             ///< bench: as RunSettings::shards
  int tensor = 1;             ///< bench: ranks of the tensor axis; the others are on the data axis
  comm::Overlap overlap = comm::Overlap::kAuto;  ///< bench: as RunSettings::overlap
  bool reproducible = true;                      ///< bench: as RunSettings::reproducible
  std::filesystem::path tune;                    ///< bench: the wisdom file to write
  bool layers = false;                           ///< bench: a table of layers, too
  bool json = false;                             ///< bench

  std::string topic;      ///< help: a word, or empty
  bool markdown = false;  ///< help: all of it, as a page

  std::filesystem::path checkpoint;  ///< predict
  std::string data;                  ///< predict: DECK:DATASET
  std::filesystem::path output;      ///< predict: .h5 or .csv; run, check: as run.output, if not empty
};

/// True when the command needs no MPI launch, so that it works on a login node: help, version and check.
bool runs_without_mpi(int argc, char** argv);

/// Throws Error (usage) for a command, option or value that does not exist.
Options parse_options(int argc, char** argv);

}  // namespace impart::app

// check_deck: the deck as a whole; what concerns one kind of stage is checked by the stage.

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>

#include "impart/core/counted.hpp"
#include "impart/core/error.hpp"
#include "impart/core/suggest.hpp"
#include "impart/nn/wisdom.hpp"
#include "impart/runner/runner.hpp"
#include "impart/stages/check_context.hpp"
#include "impart/stages/ranks.hpp"
#include "runner/run_record.hpp"

namespace impart::runner {

namespace {

namespace fs = std::filesystem;

// The run directory, or the nearest directory above it that is there.
fs::path nearest_existing(fs::path path) {
  std::error_code error;
  path = fs::absolute(path, error);
  while (!fs::exists(path, error) && path.has_relative_path()) path = path.parent_path();
  return path;
}

/// Bytes of what earlier runs of these stages have left there, which this run replaces.
std::uintmax_t replaced_bytes(const stages::Deck& deck) {
  std::uintmax_t bytes = 0;
  for (const auto& stage : deck.stages) {
    std::error_code error;
    fs::recursive_directory_iterator file(deck.run_directory() / stage->name(), error);
    for (const auto end = fs::end(file); !error && file != end; file.increment(error)) {
      std::error_code gone;
      const auto size = file->is_regular_file(gone) ? file->file_size(gone) : 0;
      if (!gone) bytes += size;
    }
  }
  return bytes;
}

/// What stands in a stage's way to its results: a file of the run, or something of another type.
void check_places_of_results(const stages::Deck& deck, Problems& problems) {
  for (const auto& stage : deck.stages) {
    std::error_code error;
    const auto directory = deck.run_directory() / stage->name();
    const auto type = fs::status(directory, error).type();
    if (type != fs::file_type::directory && type != fs::file_type::not_found) {
      problems.add(
          deck.places, stage->path(),
          fmt::format("its results go to {}, which is not a directory (remove it, or rename the stage)",
                      directory.string()));
      continue;
    }
    for (const auto* name : {"model.h5", "metrics.json"}) {
      const auto file = fs::status(directory / name, error).type();
      if (file == fs::file_type::regular || file == fs::file_type::not_found || file == fs::file_type::none)
        continue;
      problems.add(
          deck.places, stage->path(),
          fmt::format("its result goes to {}, which is not a file (remove it)", (directory / name).string()));
    }
  }
}

void check_output(const stages::Deck& deck, std::uintmax_t needed, Problems& problems) {
  const auto directory = nearest_existing(deck.run_directory());
  std::error_code error;
  if (!fs::is_directory(directory, error)) {
    problems.add(deck.places, "run.output",
                 fmt::format("{} cannot be made: {} is not a directory", deck.run_directory().string(),
                             directory.string()));
    return;
  }
  if (access(directory.c_str(), W_OK | X_OK) != 0) {
    problems.add(deck.places, "run.output",
                 fmt::format("{} cannot be written: no permission in {}", deck.run_directory().string(),
                             directory.string()));
    return;
  }
  check_places_of_results(deck, problems);
  const auto space = fs::space(directory, error);
  if (!error && space.available + replaced_bytes(deck) < needed) {
    problems.add(deck.places, "run.output",
                 fmt::format("the run needs about {} MB of disk, {} has {} MB left", needed / 1'000'000,
                             directory.string(), space.available / 1'000'000));
  }
}

void check_selection(const stages::Deck& deck, const std::vector<std::string>& only, Problems& problems) {
  std::vector<std::string_view> names;
  for (const auto& stage : deck.stages) names.push_back(stage->name());
  for (const auto& name : only) {
    if (std::ranges::find(names, name) != names.end()) continue;
    const auto near = suggestion(name, names);
    problems.add({"--stages", 0},
                 fmt::format("there is no stage '{}' ({})", name,
                             near.empty() ? fmt::format("there are {}", fmt::join(names, ", ")) : near));
  }
}

void check_wisdom(const stages::Deck& deck, Problems& problems) {
  if (deck.run.wisdom.empty()) return;
  try {
    nn::use_wisdom(read_file(deck.resolve(deck.run.wisdom)));
  } catch (const Error& e) {
    problems.add(deck.places, "run.wisdom", e.what());
  }
}

// The ranks that all stages together have.
void check_ranks(const stages::Deck& deck, int ranks, Problems& problems) {
  if (stages::splits_tensors(deck)) return;  // then the shards are those of the data axis
  const auto why = stages::why_not_ranks(ranks, deck.run.shards, "`mpirun -n`");
  if (!why.empty()) problems.add(deck.places, "run.shards", "ranks: " + why);
}

// Those that the stage asks for.
void check_ranks_of(const stages::Stage& stage, const stages::Deck& deck, const stages::CheckOptions& options,
                    Problems& problems) {
  if (stage.common().ranks < 1) return;
  const auto path = stage.path() + ".ranks";
  const auto wanted = stages::wanted_ranks(stage, options.ranks, deck.run.shards);
  if (wanted > options.ranks) {
    problems.add(
        deck.places, path,
        fmt::format("the stage asks for {}, and there {} {} ({}, or give fewer)", counted(wanted, "rank"),
                    options.ranks == 1 ? "is" : "are", options.ranks,
                    options.ranks_known ? "start as many" : "say with --ranks how many there will be"));
    return;
  }
  if (stage.mesh().tensor > 1) return;                                   // which the stage checks
  if (wanted == options.ranks && !stages::splits_tensors(deck)) return;  // told of all ranks
  const auto why = stages::why_not_ranks(wanted, deck.run.shards, "it");
  if (!why.empty()) problems.add(deck.places, path, why);
}

}  // namespace

std::vector<std::string> check_deck(const stages::Deck& deck, const stages::CheckOptions& options,
                                    Problems& problems) {
  check_ranks(deck, options.ranks, problems);
  check_selection(deck, options.only, problems);
  check_wisdom(deck, problems);
  stages::CheckContext context(deck, options, problems);
  for (const auto& stage : deck.stages) {
    // Of an unknown kind: a problem already; stages that name it are not to blame.
    if (!stage->common().kind.empty() && context.will_run(*stage))
      check_ranks_of(*stage, deck, options, problems);
    context.leave(stage->name(), stage->check(context));
  }
  check_output(deck, context.disk_bytes(), problems);
  return context.notes();
}

std::vector<std::string> check_together(const comm::Comm& comm, const stages::Deck& deck,
                                        const stages::CheckOptions& options, Problems problems) {
  std::string text;  // a line for each
  comm::agree(comm, "check", [&] {
    if (!comm.is_root()) return;
    check_deck(deck, options, problems);
    for (const auto& line : problems.lines()) text += line + '\n';
  });
  comm.broadcast(text, 0, "check");
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = text.find('\n', begin);
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

}  // namespace impart::runner

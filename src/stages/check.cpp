// check_deck: the deck as a whole; what concerns one kind of stage is checked by the stage.

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>

#include "impart/core/counted.hpp"
#include "impart/core/error.hpp"
#include "impart/core/files.hpp"
#include "impart/core/suggest.hpp"
#include "impart/nn/wisdom.hpp"
#include "impart/stages/runner.hpp"
#include "stages/check_context.hpp"
#include "stages/rank_groups.hpp"
#include "stages/run_record.hpp"

namespace impart::stages {

namespace {

namespace fs = std::filesystem;

// The run directory, or the nearest directory above it that is there.
fs::path nearest_existing(fs::path path) {
  std::error_code error;
  path = fs::absolute(path, error);
  while (!fs::exists(path, error) && path.has_relative_path()) path = path.parent_path();
  return path;
}

void check_output(const Deck& deck, std::uintmax_t needed, Problems& problems) {
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
  const auto space = fs::space(directory, error);
  if (!error && space.available < needed) {
    problems.add(deck.places, "run.output",
                 fmt::format("the run needs about {} MB of disk, {} has {} MB left", needed / 1'000'000,
                             directory.string(), space.available / 1'000'000));
  }
}

void check_selection(const Deck& deck, const std::vector<std::string>& only, Problems& problems) {
  std::vector<std::string_view> names;
  for (const auto& stage : deck.stages) names.push_back(stage.name);
  for (const auto& name : only) {
    if (std::ranges::find(names, name) != names.end()) continue;
    const auto near = suggestion(name, names);
    problems.add({"--stages", 0},
                 fmt::format("there is no stage '{}' ({})", name,
                             near.empty() ? fmt::format("there are {}", fmt::join(names, ", ")) : near));
  }
}

void check_wisdom(const Deck& deck, Problems& problems) {
  if (deck.run.wisdom.empty()) return;
  try {
    nn::use_wisdom(read_file(deck.resolve(deck.run.wisdom), nn::kMaxWisdomBytes));
  } catch (const Error& e) {
    problems.add(deck.places, "run.wisdom", e.what());
  }
}

// The ranks that all stages together have.
void check_ranks(const Deck& deck, int ranks, Problems& problems) {
  if (splits_tensors(deck)) return;  // then the shards are those of the data axis
  const auto why = why_not_ranks(ranks, deck.run.shards, "`mpirun -n`");
  if (!why.empty()) problems.add(deck.places, "run.shards", "ranks: " + why);
}

// Those that the stage asks for.
void check_ranks_of(const StageSettings& stage, const Deck& deck, const CheckOptions& options,
                    Problems& problems) {
  if (stage.ranks < 1) return;
  const auto path = stage.path + ".ranks";
  const auto wanted = wanted_ranks(stage, options.ranks, deck.run.shards);
  if (wanted > options.ranks) {
    problems.add(
        deck.places, path,
        fmt::format("the stage asks for {}, and there {} {} ({}, or give fewer)", counted(wanted, "rank"),
                    options.ranks == 1 ? "is" : "are", options.ranks,
                    options.ranks_known ? "start as many" : "say with --ranks how many there will be"));
    return;
  }
  if (mesh_of(stage).tensor > 1) return;                         // which the stage checks
  if (wanted == options.ranks && !splits_tensors(deck)) return;  // told of all ranks
  const auto why = why_not_ranks(wanted, deck.run.shards, "it");
  if (!why.empty()) problems.add(deck.places, path, why);
}

}  // namespace

std::vector<std::string> check_deck(const Deck& deck, const CheckOptions& options, Problems& problems) {
  check_ranks(deck, options.ranks, problems);
  check_selection(deck, options.only, problems);
  check_wisdom(deck, problems);
  CheckContext context(deck, options, problems);
  for (const auto& settings : deck.stages) {
    if (settings.kind.empty()) {  // a problem already; stages that name this one are not to blame
      context.leave(settings.name, std::nullopt);
      continue;
    }
    if (context.will_run(settings)) check_ranks_of(settings, deck, options, problems);
    context.leave(settings.name, make_stage(settings)->check(context));
  }
  check_output(deck, context.disk_bytes(), problems);
  return context.notes();
}

std::vector<std::string> check_together(const comm::Comm& comm, const Deck& deck, const CheckOptions& options,
                                        Problems problems) {
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

}  // namespace impart::stages

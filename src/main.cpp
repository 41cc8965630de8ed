// impart: models that share knowledge, trained over MPI.
//
//   mpirun -n 2 impart run inputs/digits.toml
//   mpirun -n 2 impart run inputs/digits.toml --set stage.base.epochs=1 --stages base
//   impart check inputs/digits.toml --ranks 64 --memory-per-rank 4G
//   impart bench --model cnn --batch 128 --json
//   impart predict runs/digits/student/model.h5 --data inputs/digits.toml:mnist --output predictions.csv
//
// Exit codes: 0 done, 1 failed, 2 wrong usage or deck, 75 stopped by a signal with its state saved.

#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <string_view>

#include "impart/app/commands.hpp"
#include "impart/app/options.hpp"
#include "impart/app/process.hpp"
#include "impart/app/reference.hpp"
#include "impart/comm/comm.hpp"
#include "impart/comm/watch.hpp"
#include "impart/core/counted.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "impart/runner/runner.hpp"
#include "impart/runner/version.hpp"

namespace {

using namespace impart;

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;
constexpr int kStopped = 75;

int exit_code(const Error& error) { return error.kind() == ErrorKind::kUsage ? kWrongUsage : kFailed; }

void print(const std::string& text) { std::fputs(text.c_str(), stdout); }

void print_error(const std::string& text) { std::fprintf(stderr, "error: %s\n", text.c_str()); }

int report_problems(const std::vector<std::string>& problems, const std::filesystem::path& deck) {
  for (const auto& line : problems) print_error(line);
  print_error(deck.string() + ": " + counted(static_cast<std::int64_t>(problems.size()), "problem") +
              ", nothing was started");
  return kWrongUsage;
}

// Every rank has the same command line, so all of them fail together.
app::Options read_options(int argc, char** argv) {
  try {
    return app::parse_options(argc, argv);
  } catch (Error& e) {
    throw std::move(e).collective();
  }
}

int run(const comm::Comm& world, const app::Options& options) {
  const auto node = world.split_by_node();
  comm::Watchdog watchdog(world, node);

  // 4. The deck: read by one rank, so that all have the same.
  Problems problems;
  const auto text = app::read_deck_text(world, options.deck);
  const auto deck = app::read_deck(options, text, problems);

  // 5. The check: everything that is wrong is told now, before hours of work.
  stages::CheckOptions limits;
  limits.ranks = world.size();
  limits.ranks_of_node = node.size();
  limits.threads = options.threads;
  limits.only = options.only;
  if (world.is_root() && !options.fresh) limits.finished = runner::finished_stages(deck);
  const auto found = runner::check_together(world, deck, limits, std::move(problems));
  if (!found.empty()) return world.is_root() ? report_problems(found, options.deck) : kWrongUsage;

  // 6. The stages. A signal stops them at a step boundary.
  watchdog.set_limits({.warning = deck.run.stall_warning, .abort = deck.run.stall_abort});
  const auto report = runner::run_deck(world, deck,
                                       {.only = options.only,
                                        .fresh = options.fresh,
                                        .trace = options.trace,
                                        .threads = options.threads,
                                        .progress = options.progress,
                                        .stop = &app::stop_on_signals()});

  // 7. What each stage has brought.
  if (world.is_root()) print(runner::closing_table(report));
  if (report.stopped) log::info("stopped; the same command continues the run");
  return report.stopped ? kStopped : kDone;
}

// The same check on a login node, which has no ranks.
int check(const app::Options& options) {
  Problems problems;
  const auto deck = app::read_deck(options, app::read_deck_text(options.deck), problems);
  stages::CheckOptions limits;
  limits.ranks = options.ranks;
  limits.ranks_known = options.ranks_known;
  limits.memory_per_rank = options.memory_per_rank;
  const auto notes = runner::check_deck(deck, limits, problems);
  if (!problems.empty()) return report_problems(problems.lines(), options.deck);
  for (const auto& note : notes) print(note + "\n");
  print(options.deck.string() + ": no problems found for " + counted(options.ranks, "rank") + "\n");
  return kDone;
}

int run_command(const comm::Comm* world, int argc, char** argv) {
  // 2. Options.
  auto options = read_options(argc, argv);
  switch (options.command) {
    case app::Command::kHelp:
      print(options.help);
      return argc < 2 ? kWrongUsage : kDone;
    case app::Command::kVersion:
      print(runner::version_line() + "\n");
      return kDone;
    case app::Command::kReference:
      print(options.markdown ? app::reference_page() : app::help(options.topic));
      return kDone;
    case app::Command::kCheck:
      return check(options);
    default:
      break;
  }

  // 3. The cores of this rank.
  options.threads = app::use_cores(*world, options.threads);
  if (options.command == app::Command::kRun) return run(*world, options);
  const auto result =
      options.command == app::Command::kPredict ? app::predict(*world, options) : app::bench(*world, options);
  if (world->is_root()) print(result);
  return kDone;
}

}  // namespace

int main(int argc, char** argv) {
  // What `ulimit -f` forbids to write fails as on a full disk, with a line of its own, instead of a silent end.
  std::signal(SIGXFSZ, SIG_IGN);
  // 1. MPI, before the `try`, so that handlers can still speak. The commands of a login node do without.
  std::optional<comm::MpiSession> session;
  std::optional<comm::Comm> world;
  if (!app::runs_without_mpi(argc, argv)) {
    // From here on a signal stops a run in good order, even while MPI starts.
    if (std::string_view(argv[1]) == "run") app::stop_on_signals();
    session.emplace(&argc, &argv);
    world.emplace(comm::Comm::world());
    log::configure(world->rank(), world->size());
  }
  const bool alone = !world || world->size() == 1;
  try {
    return run_command(world ? &*world : nullptr, argc, argv);
  } catch (const Error& e) {
    // 8. The exit code. An error that all ranks share is told once, and all end in order.
    if (alone || e.is_collective()) {
      if (!world || world->is_root()) print_error(e.what());
      return exit_code(e);
    }
    log::error(e.what());
  } catch (const std::bad_alloc&) {
    log::error("out of memory (`impart check DECK --ranks N` says what each stage needs)");
    if (alone) return kFailed;
  } catch (const std::exception& e) {
    log::error(e.what());
    if (alone) return kFailed;
  }
  // The other ranks may wait for this one for ever.
  MPI_Abort(MPI_COMM_WORLD, kFailed);
  return kFailed;
}

#include "impart/app/options.hpp"

#include <fmt/format.h>

#include <boost/program_options.hpp>
#include <sstream>

#include "impart/core/error.hpp"
#include "impart/core/suggest.hpp"

namespace impart::app {

namespace {

namespace po = boost::program_options;

constexpr std::string_view kUsage =
    R"(usage: impart run DECK         run the stages of a deck; run again to continue where it stopped
       impart check DECK       find what is wrong with a deck, without MPI
       impart bench            measure training on synthetic data
       impart predict CHECKPOINT --data DECK:DATASET --output FILE.h5|.csv
       impart help [TOPIC]     the settings of decks: impart help adam; --markdown: all, as a page
       impart COMMAND --help   the options of a command
)";

struct CommandName {
  std::string_view name;
  Command command;
  std::string_view positional;  // what stands behind the command
};

constexpr CommandName kCommands[] = {
    {"run", Command::kRun, "DECK"},    {"check", Command::kCheck, "DECK"},
    {"bench", Command::kBench, ""},    {"predict", Command::kPredict, "CHECKPOINT"},
    {"help", Command::kReference, ""},
};

Error usage(const std::string& what) { return Error(what, ErrorKind::kUsage); }

const CommandName& find_command(std::string_view word) {
  std::vector<std::string_view> known;
  for (const auto& command : kCommands) {
    if (command.name == word) return command;
    known.push_back(command.name);
  }
  throw usage("unknown command")
      .expected("run, check, bench, predict or help")
      .got("'" + std::string(word) + "'")
      .hint(suggestion(word, known));
}

// "4G", "512M", "1000000".
std::size_t parse_bytes(const std::string& text) {
  std::size_t end = 0;
  double value = 0;
  try {
    value = std::stod(text, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  const auto unit = text.substr(end);
  double factor = 0;
  if (unit.empty()) factor = 1;
  if (unit == "K" || unit == "k") factor = 1e3;
  if (unit == "M") factor = 1e6;
  if (unit == "G") factor = 1e9;
  if (end == 0 || factor == 0 || !(value > 0) || value * factor > 1e18) {
    throw usage("not a size")
        .at("--memory-per-rank")
        .expected("a number and K, M or G, as 4G")
        .got("'" + text + "'");
  }
  return static_cast<std::size_t>(value * factor);
}

std::vector<std::string> split_names(const std::string& text) {
  std::vector<std::string> names;
  std::istringstream stream(text);
  for (std::string name; std::getline(stream, name, ',');) names.push_back(name);
  return names;
}

void at_least_one(const char* option, std::int64_t value) {
  if (value < 1) throw usage("out of range").at(option).expected("at least 1").got(std::to_string(value));
}

po::options_description describe(Command command, Options& options) {
  po::options_description all("options");
  all.add_options()("help,h", "this list");
  if (command == Command::kRun || command == Command::kCheck) {
    all.add_options()("set", po::value(&options.overrides)->composing(),
                      "KEY=VALUE: change the deck, as --set stage.teacher.epochs=1")(
        "output", po::value<std::string>(), "directory in which the run directory is made");
  }
  if (command != Command::kCheck && command != Command::kReference) {
    all.add_options()("threads", po::value(&options.threads),
                      "threads of each rank; default: the cores it may use");
  }
  if (command == Command::kRun) {
    all.add_options()("stages", po::value<std::string>(), "run only these: a,b")(
        "fresh", po::bool_switch(&options.fresh), "start over: reuse and continue nothing")(
        "trace", po::bool_switch(&options.trace),
        "write trace.json: what every rank does when, for Perfetto or chrome://tracing")(
        "progress", po::value<std::string>()->default_value("auto"), "auto, bar, plain or none");
  }
  if (command == Command::kCheck) {
    all.add_options()("ranks", po::value(&options.ranks), "ranks that the run will have")(
        "memory-per-rank", po::value<std::string>(), "memory that each rank will have, as 4G");
  }
  if (command == Command::kBench) {
    all.add_options()("model", po::value(&options.model),
                      "a model of the zoo, as resnet18 (10 classes, small images), or DECK:MODEL")(
        "batch", po::value(&options.batch), "samples in a batch of all ranks")(
        "shards", po::value(&options.shards), "equal parts of a batch, as in a deck's [run]")(
        "overlap", po::value<std::string>()->default_value("auto"),
        "auto, blocking, polling or thread: who sums gradients during the backward pass")(
        "reproducible", po::value(&options.reproducible), "0: ranks' gradients are added in any order")(
        "tensor", po::value(&options.tensor), "ranks that share the model's tensors, as in a deck's mesh")(
        "steps", po::value(&options.steps), "steps to measure")(
        "tune", po::value<std::string>(),
        "FILE: measure all kernels on the model's convolutions, and write the fastest to a wisdom file")(
        "layers", po::bool_switch(&options.layers), "a table of the layers, with their kernels")(
        "json", po::bool_switch(&options.json), "print one JSON object");
  }
  if (command == Command::kReference) {
    all.add_options()("markdown", po::bool_switch(&options.markdown), "all of it, as a page of Markdown");
  }
  if (command == Command::kPredict) {
    all.add_options()("data", po::value(&options.data), "DECK:DATASET")(
        "output", po::value<std::string>(), "FILE.h5 or FILE.csv: class and probabilities of each sample");
  }
  return all;
}

void take_positional(const CommandName& command, const po::variables_map& values, Options& options) {
  if (command.positional.empty()) return;
  if (values.count("file") == 0) {
    throw usage(fmt::format("impart {} needs a {}", command.name, command.positional))
        .hint("see impart --help");
  }
  const auto file = values["file"].as<std::string>();
  (command.command == Command::kPredict ? options.checkpoint : options.deck) = file;
}

void take_values(const po::variables_map& values, Options& options) {
  if (values.count("output") != 0) options.output = values["output"].as<std::string>();
  if (options.command == Command::kPredict) {
    if (options.data.empty()) throw usage("impart predict needs --data DECK:DATASET");
    if (options.output.empty()) throw usage("impart predict needs --output FILE.h5 or FILE.csv");
    const auto kind = options.output.extension();
    if (kind != ".h5" && kind != ".csv") {
      throw usage("unknown kind of file")
          .at("--output")
          .expected("FILE.h5 or FILE.csv")
          .got(options.output.string());
    }
  }
  if (values.count("stages") != 0) options.only = split_names(values["stages"].as<std::string>());
  if (values.count("progress") != 0)
    options.progress = parse_progress_mode(values["progress"].as<std::string>());
  if (values.count("memory-per-rank") != 0) {
    options.memory_per_rank = parse_bytes(values["memory-per-rank"].as<std::string>());
  }
  if (values.count("tune") != 0) options.tune = values["tune"].as<std::string>();
  if (values.count("overlap") != 0) {
    const auto word = values["overlap"].as<std::string>();
    const auto found = std::ranges::find(comm::kOverlapNames, word);
    if (found == comm::kOverlapNames.end()) {
      throw usage("unknown overlap").at("--overlap").expected("auto, blocking, polling or thread").got(word);
    }
    options.overlap = static_cast<comm::Overlap>(found - comm::kOverlapNames.begin());
  }
  options.ranks_known = values.count("ranks") != 0;
  if (values.count("threads") != 0) at_least_one("--threads", options.threads);
  at_least_one("--ranks", options.ranks);
  at_least_one("--batch", options.batch);
  at_least_one("--steps", options.steps);
  at_least_one("--shards", options.shards);
  at_least_one("--tensor", options.tensor);
}

}  // namespace

bool runs_without_mpi(int argc, char** argv) {
  if (argc < 2) return true;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--help" || word == "-h" || word == "--version") return true;
  }
  const std::string_view command = argv[1];
  return command == "check" || command == "help";
}

Options parse_options(int argc, char** argv) {
  Options options;
  options.help = kUsage;
  if (argc < 2) return options;
  const std::string_view word = argv[1];
  if (word == "--help" || word == "-h") return options;
  if (word == "--version") {
    options.command = Command::kVersion;
    return options;
  }
  const auto& command = find_command(word);
  options.command = command.command;
  const auto visible = describe(command.command, options);
  po::options_description all;
  all.add(visible).add_options()("file", po::value<std::string>());
  po::positional_options_description positional;
  if (!command.positional.empty() || command.command == Command::kReference) positional.add("file", 1);
  po::variables_map values;
  try {
    po::store(po::command_line_parser(argc - 1, argv + 1).options(all).positional(positional).run(), values);
    po::notify(values);
  } catch (const po::error& e) {
    throw usage(e.what()).hint(fmt::format("see impart {} --help", command.name));
  }
  if (values.count("help") != 0) {
    std::ostringstream text;
    text << "usage: impart " << command.name << ' ' << command.positional
         << (command.positional.empty() ? "" : " ") << "[options]\n\n"
         << visible;
    options.command = Command::kHelp;
    options.help = text.str();
    return options;
  }
  if (command.command == Command::kReference && values.count("file") != 0)
    options.topic = values["file"].as<std::string>();
  take_positional(command, values, options);
  take_values(values, options);
  return options;
}

}  // namespace impart::app

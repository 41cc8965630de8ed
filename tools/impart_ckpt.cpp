// impart-ckpt: looks into checkpoints, on any machine, without MPI.
//
//   impart-ckpt info runs/digits/teacher/model.h5
//   impart-ckpt diff runs/a/model.h5 runs/b/model.h5 && echo same
//   impart-ckpt verify runs/digits/*/model.h5
#include <fmt/format.h>

#include <array>
#include <boost/program_options.hpp>
#include <cstdio>
#include <exception>
#include <sstream>
#include <string_view>

#include "impart/core/error.hpp"
#include "impart_ckpt.hpp"

namespace {

using namespace impart::tool;
namespace po = boost::program_options;

constexpr int kUsageExit = 2;
constexpr std::size_t kAnyNumber = 1000000;

struct Command {
  std::string_view name, operands, help;
  std::size_t fewest, most;
  int (*run)(const Arguments&);
};

constexpr std::array<Command, 6> kCommands{{
    {"info", "FILE", "what it is, and what it was made from", 1, 1, info},
    {"ls", "FILE", "its tensors: name, kind, shape, digest", 1, 1, list},
    {"stats", "FILE", "min, max, mean, norm, zeros and NaNs of each tensor", 1, 1, stats},
    {"diff", "A B", "compare by tensor: equal, or the largest differences", 2, 2, diff},
    {"verify", "FILE...", "check every digest", 1, kAnyNumber, verify},
    {"lineage", "FILE", "the tree of what it was made from", 1, 1, lineage},
}};

void print_help(const po::options_description& options) {
  fmt::print(
      "Usage: impart-ckpt COMMAND [--json] FILE...\n\nLooks into checkpoints of impart.\n\nCommands:\n");
  for (const auto& command : kCommands) {
    fmt::print("  {:<17} {}\n", fmt::format("{} {}", command.name, command.operands), command.help);
  }
  fmt::print("\n");
  std::fflush(stdout);
  std::ostringstream text;
  text << options;
  fmt::print("{}\n", text.str());
  fmt::print(
      "diff compares parameters and buffers bit for bit; a relative difference is |a-b| / max(|a|, |b|).\n"
      "stats leaves NaNs out of min, max, mean and norm (Euclidean).\n"
      "lineage follows paths from the directory of each file; parents that are gone are shown by digest.\n\n"
      "Exit codes: 0 done, equal or intact; 1 different, damaged or unreadable; 2 wrong usage.\n");
}

[[noreturn]] void refuse(const std::string& problem) {
  throw impart::Error(problem, impart::ErrorKind::kUsage).hint("see impart-ckpt --help");
}

const Command& find_command(const std::string& name) {
  for (const auto& command : kCommands) {
    if (command.name == name) return command;
  }
  refuse(fmt::format("there is no command '{}'", name));
}

int run(int argc, char** argv) {
  po::options_description options("Options");
  options.add_options()("json", "print JSON, for programs")("help,h", "print this text")("version",
                                                                                         "print the version");
  po::options_description all;
  all.add(options).add_options()("operand", po::value<std::vector<std::string>>());
  po::positional_options_description positions;
  positions.add("operand", -1);

  po::variables_map values;
  po::store(po::command_line_parser(argc, argv).options(all).positional(positions).run(), values);
  if (values.count("help") != 0) {
    print_help(options);
    return 0;
  }
  if (values.count("version") != 0) {
    fmt::print("impart-ckpt {}\n", IMPART_VERSION);
    return 0;
  }
  if (values.count("operand") == 0) refuse("a command is missing");

  const auto& operands = values["operand"].as<std::vector<std::string>>();
  const auto& command = find_command(operands.front());
  const Arguments arguments{{operands.begin() + 1, operands.end()}, values.count("json") != 0};
  if (arguments.files.size() < command.fewest || arguments.files.size() > command.most) {
    refuse(fmt::format("usage: impart-ckpt {} {}", command.name, command.operands));
  }
  return command.run(arguments);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int code = run(argc, argv);
    if (std::fflush(stdout) != 0) throw impart::Error("cannot write to standard output");
    return code;
  } catch (const impart::Error& error) {
    fmt::print(stderr, "impart-ckpt: {}\n", error.what());
    return error.kind() == impart::ErrorKind::kUsage ? kUsageExit : 1;
  } catch (const po::error& error) {
    fmt::print(stderr, "impart-ckpt: {} (see impart-ckpt --help)\n", error.what());
    return kUsageExit;
  } catch (const std::exception& error) {
    fmt::print(stderr, "impart-ckpt: {}\n", error.what());
    return 1;
  }
}

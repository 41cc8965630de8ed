#include "app/deck_argument.hpp"

#include "impart/app/commands.hpp"
#include "impart/core/error.hpp"
#include "impart/nn/zoo.hpp"
#include "runner/run_record.hpp"

namespace impart::app {

std::string read_deck_text(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) {
    throw Error("there is no such file", ErrorKind::kUsage).at(path.string()).expected("a deck");
  }
  return runner::read_file(path);
}

std::string read_deck_text(const comm::Comm& comm, const std::filesystem::path& path) {
  std::string text;
  comm::agree(comm, "deck", [&] {
    if (comm.is_root()) text = read_deck_text(path);
  });
  comm.broadcast(text, 0, "deck");
  return text;
}

stages::Deck read_deck(const Options& options, const std::string& text, Problems& problems) {
  auto deck = stages::read_deck(text, options.deck, options.overrides, problems);
  if (!options.output.empty()) {
    deck.run.output = options.output.string();
    deck.places.add("run.output", {"--output " + deck.run.output, 0});
  }
  return deck;
}

std::pair<stages::Deck, std::string> deck_argument(const comm::Comm& comm, const std::string& argument,
                                                   const char* option) {
  const auto colon = argument.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == argument.size()) {
    throw Error("not of the form DECK:NAME", ErrorKind::kUsage)
        .at(option)
        .got("'" + argument + "'")
        .collective();
  }
  const std::filesystem::path path = argument.substr(0, colon);
  Problems problems;
  auto deck = stages::read_deck(read_deck_text(comm, path), path, {}, problems, stages::DeckUse::kParts);
  if (!problems.empty()) throw Error(problems.lines().front(), ErrorKind::kUsage).collective();
  return {std::move(deck), argument.substr(colon + 1)};
}

nn::ModelSpec model_argument(const comm::Comm& comm, const std::string& argument) {
  if (argument.find(':') == std::string::npos) {
    nn::ModelSpec spec;
    comm::agree(comm, "--model", [&] { spec = nn::zoo_benchmark(argument); });
    return spec;
  }
  const auto [deck, name] = deck_argument(comm, argument, "--model");
  const auto* spec = deck.find_model(name);
  if (spec == nullptr) {
    throw Error("there is no [model." + name + "]", ErrorKind::kUsage).at(deck.path.string()).collective();
  }
  return *spec;
}

}  // namespace impart::app

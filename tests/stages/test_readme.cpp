// README.md is the manual: every word that a deck can choose stands in it.

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "impart/data/augment.hpp"
#include "impart/nn/layer.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/zoo.hpp"
#include "impart/stages/deck.hpp"
#include "impart/stages/stage.hpp"
#include "impart/train/optimizer.hpp"
#include "impart/train/solver.hpp"

namespace impart::stages {
namespace {

std::string readme() {
  std::ifstream file(IMPART_SOURCE_DIR "/README.md");
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

/// As decks have it, or as a name in the text.
bool tells_of(const std::string& text, const std::string& word) {
  return text.find('"' + word + '"') != std::string::npos || text.find('`' + word + '`') != std::string::npos;
}

/// What the `kind` in a stage's table `key` can be, from what is said to a wrong one.
std::vector<std::string> kinds_of(const std::string& key) {
  Problems problems;
  read_deck("[[stage]]\nname = 's'\nkind = 'train'\n" + key + " = { kind = '?' }\n", "t.toml", {}, problems);
  for (const auto& line : problems.lines()) {
    const std::string start = key + ".kind: expected ";
    const auto from = line.find(start);
    const auto to = line.find(", got '?'");
    if (from == std::string::npos || to == std::string::npos) continue;
    std::istringstream list(line.substr(from + start.size(), to - from - start.size()));
    std::vector<std::string> words;
    for (std::string word; list >> word;) words.push_back(word.substr(0, word.find(',')));
    return words;
  }
  return {};
}

TEST(Readme, NamesEveryKind) {
  const auto text = readme();
  const auto expect_told = [&](const char* what, const auto& names) {
    EXPECT_GT(names.size(), 1U) << what;
    for (const auto& name : names) EXPECT_TRUE(tells_of(text, std::string(name))) << what << " " << name;
  };
  expect_told("layer", nn::layer_kinds());
  expect_told("objective", nn::objective_names());
  expect_told("arch", nn::zoo_names());
  expect_told("optimizer", train::optimizer_names());
  expect_told("solver", train::solver_names());
  expect_told("augmentation", data::augmentations().names());
  expect_told("stage", stage_kinds());
  expect_told("schedule", kinds_of("schedule"));
  expect_told("average", kinds_of("average"));
  EXPECT_FALSE(tells_of(text, "a kind that nobody knows"));
}

}  // namespace
}  // namespace impart::stages

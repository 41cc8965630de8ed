// The command line.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "impart/app/options.hpp"
#include "impart/core/error.hpp"

namespace impart::app {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Options parse(std::vector<std::string> words) {
  words.insert(words.begin(), "impart");
  std::vector<char*> pointers;
  for (auto& word : words) pointers.push_back(word.data());
  return parse_options(static_cast<int>(pointers.size()), pointers.data());
}

std::string refusal(const std::vector<std::string>& words) {
  try {
    parse(words);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    return e.what();
  }
  ADD_FAILURE() << "accepted";
  return "";
}

TEST(Options, OfRun) {
  const auto options = parse({"run", "d.toml", "--set", "run.seed=1", "--set", "stage.a.epochs=2", "--stages",
                              "a,b", "--fresh", "--output", "x y", "--progress", "none", "--threads", "3"});
  EXPECT_EQ(options.command, Command::kRun);
  EXPECT_EQ(options.deck, "d.toml");
  EXPECT_THAT(options.overrides, ElementsAre("run.seed=1", "stage.a.epochs=2"));
  EXPECT_EQ(options.output, "x y");
  EXPECT_THAT(options.only, ElementsAre("a", "b"));
  EXPECT_TRUE(options.fresh);
  EXPECT_EQ(options.progress, ProgressMode::kNone);
  EXPECT_EQ(options.threads, 3);
}

TEST(Options, OfCheckAndBenchAndPredict) {
  const auto check = parse({"check", "d.toml", "--ranks", "64", "--memory-per-rank", "4G"});
  EXPECT_EQ(check.command, Command::kCheck);
  EXPECT_EQ(check.ranks, 64);
  EXPECT_EQ(check.memory_per_rank, 4'000'000'000U);
  const auto bench = parse({"bench", "--model", "d.toml:net", "--batch", "64", "--steps", "9", "--json",
                            "--shards", "4", "--layers", "--tune", "w.json"});
  EXPECT_EQ(bench.command, Command::kBench);
  EXPECT_EQ(bench.model, "d.toml:net");
  EXPECT_EQ(bench.batch, 64);
  EXPECT_EQ(bench.steps, 9);
  EXPECT_TRUE(bench.json);
  EXPECT_TRUE(bench.layers);
  EXPECT_EQ(bench.shards, 4);
  EXPECT_EQ(bench.tune, "w.json");
  const auto predict = parse({"predict", "m.h5", "--data", "d.toml:x", "--output", "o.csv"});
  EXPECT_EQ(predict.command, Command::kPredict);
  EXPECT_EQ(predict.checkpoint, "m.h5");
  EXPECT_EQ(predict.output, "o.csv");
}

TEST(Options, HelpIsForEachCommand) {
  EXPECT_THAT(parse({"--help"}).help, HasSubstr("impart predict CHECKPOINT"));
  const auto help = parse({"run", "--help"});
  EXPECT_EQ(help.command, Command::kHelp);
  EXPECT_THAT(help.help, HasSubstr("--fresh"));
  EXPECT_EQ(parse({"help", "adam"}).command, Command::kReference);
  EXPECT_EQ(parse({"help", "adam"}).topic, "adam");
  EXPECT_TRUE(parse({"help", "--markdown"}).markdown);
}

TEST(Options, WhatIsWrongIsTold) {
  EXPECT_THAT(refusal({"rum"}), HasSubstr("did you mean 'run'?"));
  EXPECT_THAT(refusal({"run"}), HasSubstr("needs a DECK"));
  EXPECT_THAT(refusal({"run", "a", "b"}), HasSubstr("too many positional"));
  EXPECT_THAT(refusal({"run", "a", "--nothing"}), HasSubstr("--nothing"));
  EXPECT_THAT(refusal({"run", "a", "--threads", "0"}), HasSubstr("--threads"));
  EXPECT_THAT(refusal({"run", "a", "--progress", "fancy"}), HasSubstr("auto, bar, plain or none"));
  EXPECT_THAT(refusal({"check", "a", "--memory-per-rank", "much"}), HasSubstr("a number and K, M or G"));
  EXPECT_THAT(refusal({"check", "a", "--ranks", "0"}), HasSubstr("--ranks"));
  EXPECT_THAT(refusal({"predict", "a", "--data", "d:x", "--output", "o.txt"}),
              HasSubstr("FILE.h5 or FILE.csv"));
  EXPECT_THAT(refusal({"predict", "a"}), HasSubstr("--data"));
}

}  // namespace
}  // namespace impart::app

// Decks: what is read, and how what is wrong is told.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>

#include "impart/stages/deck.hpp"
#include "impart/stages/stage.hpp"

namespace impart::stages {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kDeck = R"([run]
name = "t"
seed = 5

[dataset.digits]
format = "idx"
images = "images.gz"
labels = "labels.gz"
split = { train = 0.8, validation = 0.2 }
limit = { train = 20 }

[model.net]
input = [1, 8, 8]
classes = 10
layers = [
  { kind = "conv2d", filters = 4, kernel = 3 },
  { kind = "flatten" },
  { kind = "dense", units = 10 },
]

[[stage]]
name = "teacher"
kind = "train"
model = "net"
dataset = "digits"
epochs = 5
batch_size = 128
optimizer = { kind = "sgd", learning_rate = 0.05, momentum = 0.9 }
schedule = { kind = "cosine", warmup_epochs = 1 }
early_stopping = { patience = 3 }

[[stage]]
name = "student"
kind = "distil"
teachers = ["teacher"]
model = "net"
dataset = "digits"
kd_weight = 0.7
)";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

struct Read {
  Deck deck;
  std::vector<std::string> problems;
};

Read read(const std::string& text, const std::vector<std::string>& overrides = {}) {
  Problems problems;
  auto deck = read_deck(text, "dir/t.toml", overrides, problems);
  return {std::move(deck), problems.lines()};
}

/// One of the settings of a stage, defaults too, as JSON: setting(deck, 0, "optimizer.momentum"); "" when the stage
/// has none of that name.
std::string setting(const Deck& deck, std::size_t stage, std::string_view path) {
  SettingValue value = setting_from_json(deck.stages.at(stage)->common().resolved);
  while (!path.empty()) {
    const auto end = std::min(path.find('.'), path.size());
    const auto* table = value.as<SettingTable>();
    const auto* inner = table == nullptr ? nullptr : find_setting(*table, path.substr(0, end));
    if (inner == nullptr) return "";
    value = SettingValue(*inner);
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return to_json(value);
}

TEST(Deck, IsReadWithItsDefaults) {
  const auto [deck, problems] = read(kDeck);
  ASSERT_THAT(problems, IsEmpty());
  EXPECT_EQ(deck.run.name, "t");
  EXPECT_EQ(deck.run.seed, 5U);
  EXPECT_EQ(deck.run.shards, 8);
  EXPECT_EQ(deck.run_directory(), "runs/t");

  const auto* digits = deck.find_dataset("digits");
  ASSERT_NE(digits, nullptr);
  EXPECT_THAT(digits->settings.format->files(), ElementsAre("dir/images.gz", "dir/labels.gz"));
  EXPECT_THAT(digits->settings.split, ElementsAre(0.8, 0.2, 0));
  EXPECT_THAT(digits->settings.limit, ElementsAre(20, 0, 0));
  EXPECT_FALSE(digits->settings.scale.has_value());

  const auto* net = deck.find_model("net");
  ASSERT_NE(net, nullptr);
  EXPECT_EQ(net->input, (Shape{1, 8, 8}));
  ASSERT_EQ(net->layers.size(), 3U);
  EXPECT_EQ(net->layers[0].name, "conv1");

  ASSERT_EQ(deck.stages.size(), 2U);
  EXPECT_EQ(setting(deck, 0, "epochs"), "5");
  EXPECT_EQ(setting(deck, 0, "batch_size"), "128");
  EXPECT_EQ(setting(deck, 0, "seed"), "5");  // the run's
  EXPECT_EQ(setting(deck, 0, "optimizer.momentum"), "0.9");
  EXPECT_EQ(setting(deck, 0, "schedule.kind"), "\"cosine\"");
  EXPECT_EQ(setting(deck, 0, "early_stopping.patience"), "3");
  EXPECT_EQ(setting(deck, 1, "kd_weight"), "0.7");
  EXPECT_EQ(setting(deck, 1, "temperature"), "4.0");
}

TEST(Deck, KeepsAllSettingsAsJson) {
  const auto [deck, problems] = read(kDeck);
  EXPECT_THAT(deck.stages[0]->common().resolved, HasSubstr(R"("epochs":5)"));
  EXPECT_THAT(deck.stages[0]->common().resolved,
              HasSubstr(R"("optimizer":{"kind":"sgd","learning_rate":0.05)"));
  EXPECT_THAT(deck.stages[0]->common().resolved, HasSubstr(R"("keep":"last")"));  // a default
  EXPECT_THAT(deck.find_dataset("digits")->resolved,
              HasSubstr(R"("limit":{"train":20,"validation":0,"test":0})"));
}

TEST(Deck, WhatIsMinimisedAndHow) {
  const auto training_of = [](const std::string& to) {
    const auto [deck, problems] =
        read(replaced(kDeck,
                      "optimizer = { kind = \"sgd\", learning_rate = 0.05, momentum = 0.9 }\n"
                      "schedule = { kind = \"cosine\", warmup_epochs = 1 }\n",
                      to));
    EXPECT_THAT(problems, IsEmpty()) << to;
    return [deck](std::string_view path) { return setting(deck, 0, path); };
  };
  const auto rms = training_of(
      "optimizer = { kind = 'rmsprop', centered = true, clip_norm = 2 }\n"
      "schedule = { kind = 'multi_step', milestones = [2, 3.5], gamma = 0.5 }\naccumulate = 4\n"
      "average = { kind = 'swa', start = 0.5, learning_rate = 0.1 }\n"
      "objective = { kind = 'cross_entropy', label_smoothing = 0.1, l2 = 1e-4, class_weights = [1, 2] }\n");
  EXPECT_EQ(rms("optimizer.kind"), "\"rmsprop\"");
  EXPECT_EQ(rms("optimizer.centered"), "true");
  EXPECT_EQ(rms("optimizer.clip_norm"), "2.0");
  EXPECT_EQ(rms("schedule.milestones"), "[2.0,3.5]");
  EXPECT_EQ(rms("accumulate"), "4");
  EXPECT_EQ(rms("average.kind"), "\"swa\"");
  EXPECT_EQ(rms("average.learning_rate"), "0.1");
  EXPECT_EQ(rms("objective.label_smoothing"), "0.1");
  EXPECT_EQ(rms("objective.l2"), "0.0001");
  EXPECT_EQ(rms("objective.class_weights"), "[1.0,2.0]");

  const auto lamb = training_of("optimizer = { kind = 'lamb' }\nobjective = 'huber'\n");
  EXPECT_EQ(lamb("optimizer.learning_rate"), "0.001");
  EXPECT_EQ(lamb("optimizer.weight_decay"), "0.01");
  EXPECT_EQ(lamb("objective.kind"), "\"huber\"");
}

TEST(Deck, SolversAndWhatGoesWithThem) {
  const auto with = [](const std::string& settings) {
    const std::string text = kDeck;
    const auto from = text.find("epochs = 5");
    const auto to = text.find("[[stage]]", from);
    return read(text.substr(0, from) + settings + "\n" + text.substr(to));
  };
  const auto least = with("optimizer = { kind = 'least_squares', ridge = 0.5 }");
  EXPECT_THAT(least.problems, IsEmpty());
  EXPECT_EQ(setting(least.deck, 0, "optimizer.ridge"), "0.5");
  EXPECT_EQ(setting(least.deck, 0, "objective.kind"), "\"mean_squared_error\"");

  const auto newton = with("optimizer = { kind = 'newton', l2 = 0.1 }\nobjective = 'binary_cross_entropy'");
  EXPECT_THAT(newton.problems, IsEmpty());
  EXPECT_EQ(setting(newton.deck, 0, "optimizer.l2"), "0.1");
  EXPECT_EQ(setting(newton.deck, 0, "objective.kind"), "\"binary_cross_entropy\"");

  EXPECT_THAT(with("optimizer = { kind = 'newton' }\nobjective = 'huber'").problems,
              ElementsAre(HasSubstr("stage.teacher.objective: newton minimises cross_entropy or")));
  EXPECT_THAT(with("optimizer = { kind = 'least_squares' }\nobjective = 'cross_entropy'").problems,
              ElementsAre(HasSubstr("least_squares minimises mean_squared_error")));
  EXPECT_THAT(with("optimizer = { kind = 'lbfgs' }\nobjective = 'hinge'").problems,
              ElementsAre(HasSubstr("lbfgs needs one whose slope changes without a jump")));
  EXPECT_THAT(with("optimizer = { kind = 'lbfgs' }\nepochs = 3\nschedule = { kind = 'cosine' }").problems,
              ElementsAre(HasSubstr("stage.teacher.epochs: lbfgs does not work step by step"),
                          HasSubstr("stage.teacher.schedule: lbfgs does not work step by step")));
  EXPECT_THAT(with("optimizer = { kind = 'lbfgs', learning_rate = 0.1 }").problems,
              ElementsAre(HasSubstr("unknown key 'learning_rate'")));
}

TEST(Deck, AModelOfTheZooChoosesItsObjective) {
  const auto deck_of = [](const std::string& arch, const std::string& settings) {
    const std::string text = kDeck;
    const auto model = text.find("layers = [");
    const auto stage = text.find("epochs = 5");
    const auto end = text.find("[[stage]]", stage);
    return text.substr(0, model) + "arch = '" + arch + "'\n" +
           text.substr(text.find("[[stage]]"), stage - text.find("[[stage]]")) + settings + "\n" +
           text.substr(end);
  };
  const auto chosen = [&](const std::string& arch, const std::string& settings = "") {
    const auto [deck, problems] = read(deck_of(arch, settings));
    EXPECT_THAT(problems, IsEmpty()) << arch << settings;
    return setting(deck, 0, "objective.kind");
  };
  EXPECT_EQ(chosen("svm"), "\"multiclass_hinge\"");
  EXPECT_EQ(chosen("linear"), "\"mean_squared_error\"");
  EXPECT_EQ(chosen("logistic"), "\"cross_entropy\"");
  EXPECT_EQ(chosen("svm", "objective = 'hinge'"), "\"hinge\"");
  EXPECT_THAT(read(deck_of("resnet81", "")).problems, ElementsAre(HasSubstr("(did you mean 'resnet18'?)")));
  EXPECT_THAT(
      read(deck_of("resnet18'\nstm = 'cifar'\nwidth = 0 # ", "")).problems,
      ElementsAre(HasSubstr("t.toml:16: model.net: unknown key 'stm' (did you mean 'stem'?)"),
                  HasSubstr("t.toml:17: model.net.width: expected at least 0.01 and below 64, got 0")));
  const auto squared = read(deck_of("svm", "objective = { power = 2, l2 = 0.1 }")).deck;
  EXPECT_EQ(setting(squared, 0, "objective.kind"), "\"multiclass_hinge\"");
  EXPECT_EQ(setting(squared, 0, "objective.power"), "2");
  EXPECT_EQ(chosen("linear", "optimizer = { kind = 'newton' }"), "\"cross_entropy\"");
  EXPECT_EQ(chosen("svm", "optimizer = { kind = 'least_squares' }"), "\"mean_squared_error\"");
  EXPECT_EQ(chosen("linear", "optimizer = { kind = 'lbfgs' }"), "\"mean_squared_error\"");
  EXPECT_THAT(read(deck_of("svm", "optimizer = { kind = 'lbfgs' }")).problems,
              ElementsAre(HasSubstr("lbfgs needs one whose slope changes without a jump")));

  // It is part of the stage's settings, so that another choice makes another key. A distillation has its own.
  const auto svm = read(deck_of("svm", "")).deck;
  EXPECT_EQ(setting(svm, 0, "objective.kind"), "\"multiclass_hinge\"");
  EXPECT_EQ(setting(svm, 1, "objective.kind"), "\"cross_entropy\"");

  // A transfer goes on with its source's model, through whatever lies between.
  const std::string on = R"(
[[stage]]
name = "mean"
kind = "merge"
inputs = ["teacher", "teacher"]
[[stage]]
name = "next"
kind = "transfer"
from = "mean"
dataset = "digits"
[[stage]]
name = "itself"
kind = "transfer"
from = "itself"
dataset = "digits"
[[stage]]
name = "last"
kind = "transfer"
from = "itself"
dataset = "digits"
)";
  const auto moved = read(deck_of("svm", "") + on).deck;
  EXPECT_EQ(setting(moved, 3, "objective.kind"), "\"multiclass_hinge\"");
  EXPECT_EQ(setting(moved, 5, "objective.kind"), "\"cross_entropy\"");
}

TEST(Deck, OneL2) {
  const auto solver = [&](const std::string& optimizer, const std::string& objective) {
    const std::string text = kDeck;
    const auto from = text.find("epochs = 5");
    const auto to = text.find("[[stage]]", from);
    return read(text.substr(0, from) + optimizer + "\n" + objective + "\n" + text.substr(to));
  };
  const auto both = solver("optimizer = { kind = 'newton', l2 = 0.1 }", "objective = { l2 = 0.2 }");
  EXPECT_THAT(both.problems,
              ElementsAre(HasSubstr("stage.teacher.objective.l2: the optimizer has an l2, too")));
  for (const auto& [optimizer, objective] :
       {std::pair("optimizer = { kind = 'lbfgs', l2 = 0.1 }", "objective = { label_smoothing = 0.1 }"),
        std::pair("optimizer = { kind = 'lbfgs' }", "objective = { l2 = 0.1 }")}) {
    const auto one = solver(optimizer, objective);
    EXPECT_THAT(one.problems, IsEmpty());
    EXPECT_TRUE(setting(one.deck, 0, "objective.l2") == "0.1" ||
                setting(one.deck, 0, "optimizer.l2") == "0.1");
  }
}

TEST(Deck, EveryKindOfStageIsKnown) {
  EXPECT_THAT(stage_kinds().names(),
              ElementsAre("train", "transfer", "merge", "ensemble", "distil", "federate", "evaluate"));
}

struct Mistake {
  const char* from;
  const char* to;
  std::string problem;
};

void PrintTo(const Mistake& mistake, std::ostream* out) { *out << mistake.to; }

class DeckMistake : public testing::TestWithParam<Mistake> {};

TEST_P(DeckMistake, IsToldWithItsLine) {
  const auto& [from, to, problem] = GetParam();
  EXPECT_THAT(read(replaced(kDeck, from, to)).problems, ElementsAre(HasSubstr(problem)));
}

INSTANTIATE_TEST_SUITE_P(
    All, DeckMistake,
    testing::Values(
        Mistake{"learning_rate", "learning_rte",
                "dir/t.toml:28: stage.teacher.optimizer: unknown key 'learning_rte' (did you mean "
                "'learning_rate'?)"},
        Mistake{"seed = 5", "sede = 5", "dir/t.toml:3: run: unknown key 'sede' (did you mean 'seed'?)"},
        Mistake{"[run]", "[rum]", "dir/t.toml:1: unknown key 'rum' (did you mean 'run'?)"},
        Mistake{"epochs = 5", "epochs = \"5\"",
                "dir/t.toml:26: stage.teacher.epochs: expected an integer, got the string \"5\""},
        Mistake{"epochs = 5", "epochs = 5.5", "expected an integer, got the number 5.5"},
        Mistake{"seed = 5", "seed = -5", "dir/t.toml:3: run.seed: expected at least 0, got -5"},
        Mistake{"momentum = 0.9", "momentum = 1",
                "stage.teacher.optimizer.momentum: expected at least 0 and below 1"},
        Mistake{"momentum = 0.9", "momentum = nan", "stage.teacher.optimizer.momentum"},
        Mistake{"optimizer = {", "optimizer = 3 # {",
                "dir/t.toml:28: stage.teacher.optimizer: expected a table"},
        Mistake{"\"cosine\"", "\"cosin\"", "one_cycle, plateau, got 'cosin' (did you mean 'cosine'?)"},
        Mistake{"\"sgd\"", "\"lars\", nesterov = true", "stage.teacher.optimizer: unknown key 'nesterov'"},
        Mistake{"early_stopping = {", "objective = \"crossentropy\" # {", "(did you mean 'cross_entropy'?)"},
        Mistake{"early_stopping = {", "objective = { kind = \"l1\", delta = 2 } # {", "unknown key 'delta'"},
        Mistake{"early_stopping = {", "accumulate = 0 # {", "stage.teacher.accumulate: expected at least 1"},
        Mistake{"kind = \"cosine\"", "kind = \"multi_step\", milestones = [3, 2]", "expected rising epochs"},
        Mistake{"\"distil\"", "\"distill\"", "dir/t.toml:34: stage.student.kind: expected train, transfer"},
        Mistake{"kind = \"distil\"\n", "", "dir/t.toml:32: stage.student: 'kind' is missing"},
        Mistake{"name = \"student\"\n", "", "stage[2]: 'name' is missing"},
        Mistake{"\"student\"", "\"a/b\"", "expected a name of letters"},
        Mistake{"\"student\"", "\"teacher\"",
                "two stages are called 'teacher'; the other is at dir/t.toml:21"},
        Mistake{"teachers = [\"teacher\"]", "teachers = [1]",
                "expected an array of strings, got the integer 1"},
        Mistake{"teachers = [\"teacher\"]", "teachers = []",
                "stage.student.teachers: expected at least 1, got 0"},
        Mistake{"images = \"images.gz\"\n", "", "dataset.digits: 'images' is missing"},
        Mistake{"\"idx\"", "\"idz\"", "dir/t.toml:6: dataset.digits.format: expected idx, csv, cifar, hdf5"},
        Mistake{"train = 0.8", "train = 0.9",
                "dataset.digits.split: expected fractions that sum to at most 1"},
        Mistake{"filters = 4", "filtres = 4", "dir/t.toml:16: model.net.layers[1]"},
        Mistake{"units = 10", "units = 9", "model.net.layers"},
        Mistake{"kernel = 3", "kernel = 9", "model.net.layers"},
        Mistake{"[1, 8, 8]", "[1, 0, 8]", "dir/t.toml:13: model.net.input"},
        Mistake{"[model.net]", "[model]\nnet = 3\n[model.other]",
                "model.net: expected a table [model.NAME]"}));

TEST(Deck, TellsAllProblemsAtOnceInTheirOrder) {
  auto text = replaced(kDeck, "kd_weight = 0.7", "kd_weight = 7");
  text = replaced(text, "epochs = 5", "epochs = 0");
  text = replaced(text, "seed = 5", "seed = true");
  EXPECT_THAT(
      read(text).problems,
      ElementsAre(
          HasSubstr("dir/t.toml:3: run.seed: expected an integer, got the boolean true"),
          HasSubstr("dir/t.toml:26: stage.teacher.epochs: expected at least 1 and at most 1000000, got 0"),
          HasSubstr("dir/t.toml:38: stage.student.kd_weight: expected at least 0 and at most 1, got 7")));
}

TEST(Deck, SyntaxErrorsHaveTheirLine) {
  EXPECT_THAT(read("[run]\nname = \n").problems, ElementsAre(HasSubstr("dir/t.toml:2: not TOML")));
}

TEST(Deck, TooManyLevelsAreTold) {
  std::string deep = "a";
  for (int i = 0; i < 50'000; ++i) deep += ".a";
  for (const auto& text :
       {"\n" + deep + " = 1\n", "\n[" + deep + "]\nx = 1\n", "\nx = { " + deep + " = 1 }\n"}) {
    EXPECT_THAT(read(text).problems,
                ElementsAre(HasSubstr("dir/t.toml:2: expected at most 64 tables in each other")));
  }
  EXPECT_THAT(read(kDeck, {"run." + deep + "=1"}).problems,
              ElementsAre(HasSubstr("expected a key of at most")));
  EXPECT_THAT(read(kDeck, {"run.name=" + deep}).problems, ElementsAre(HasSubstr("at most 200 letters")));
  // Dots in text and comments are none.
  EXPECT_THAT(
      read(std::string(kDeck) + "# " + deep + "\ninit = \"" + std::string(100, '.') + "\"\n").problems,
      ElementsAre(HasSubstr("unknown key 'init'")));
}

TEST(Deck, NamesOfStagesGoWithTheFilesOfTheRun) {
  EXPECT_THAT(read(replaced(kDeck, "\"student\"", "\"run.json\"")).problems,
              ElementsAre(HasSubstr("dir/t.toml:32: stage[2]: 'run.json' is the name of a file of the run")));
  EXPECT_THAT(read(replaced(kDeck, "\"student\"", "\"" + std::string(300, 'x') + "\"")).problems,
              ElementsAre(HasSubstr("expected a name of at most 200 letters, got 300")));
}

TEST(Deck, APartOfADeckNeedsNoStages) {
  Problems problems;
  const std::string text = kDeck;
  const auto deck =
      read_deck(text.substr(0, text.find("[[stage]]")), "t.toml", {}, problems, DeckUse::kParts);
  EXPECT_THAT(problems.lines(), IsEmpty());
  EXPECT_NE(deck.find_model("net"), nullptr);
}

TEST(Deck, AnEmptyOneHasNoStages) { EXPECT_THAT(read("").problems, ElementsAre(HasSubstr("no [[stage]]"))); }

TEST(Override, ChangesAnyKey) {
  const auto [deck, problems] =
      read(kDeck, {"stage.teacher.epochs=1", "stage.student.optimizer.momentum=0.5", "run.name=other",
                   "dataset.digits.limit.train=7", "model.net.classes=10", "stage.teacher.freeze=['conv*']"});
  ASSERT_THAT(problems, IsEmpty());
  EXPECT_EQ(deck.run.name, "other");
  EXPECT_EQ(setting(deck, 0, "epochs"), "1");
  EXPECT_EQ(setting(deck, 0, "freeze"), "[\"conv*\"]");
  EXPECT_EQ(setting(deck, 1, "optimizer.momentum"), "0.5");
  EXPECT_EQ(deck.find_dataset("digits")->settings.limit[0], 7);
}

TEST(Override, ProblemsNameTheCommandLine) {
  EXPECT_THAT(
      read(kDeck, {"stage.teacher.epochs=many"}).problems,
      ElementsAre(HasSubstr("--set stage.teacher.epochs=many: stage.teacher.epochs: expected an integer")));
  EXPECT_THAT(read(kDeck, {"stage.teacher.epoch=1"}).problems,
              ElementsAre(HasSubstr("unknown key 'epoch' (did you mean 'epochs'?)")));
  EXPECT_THAT(read(kDeck, {"stage.nobody.epochs=1"}).problems,
              ElementsAre(HasSubstr("--set stage.nobody.epochs=1: the deck has no 'stage.nobody.epochs'")));
  for (const auto& [wrong, right] : {std::pair("stage.techer.epochs", "teacher"),
                                     {"satge.teacher.epochs", "stage"},
                                     {"dataset.digitz.classes", "digits"}}) {
    EXPECT_THAT(read(kDeck, {std::string(wrong) + "=1"}).problems,
                ElementsAre(HasSubstr(std::string("did you mean '") + right + "'?")));
  }
  EXPECT_THAT(read(kDeck, {"epochs"}).problems, ElementsAre(HasSubstr("expected key=value")));
  EXPECT_THAT(read(kDeck, {"stage.teacher.epochs.more=1"}).problems,
              ElementsAre(HasSubstr("'epochs' is not a table")));
}

}  // namespace
}  // namespace impart::stages

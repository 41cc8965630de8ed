// check_deck: what only the whole deck shows. And the keys of reuse, the closing table, and the run record.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>

#include <filesystem>
#include <fstream>

#include "impart/runner/runner.hpp"
#include "runner/run_record.hpp"
#include "runner/stage_key.hpp"

namespace impart::stages {

using namespace runner;
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr const char* kDeck = R"(
[dataset.rows]
format = "csv"
file = "rows.csv"
classes = 2
split = { train = 0.5, validation = 0.5 }

[model.net]
input = [3]
classes = 2
layers = [{ kind = "dense", units = 4 }, { kind = "relu" }, { kind = "dense", units = 2 }]

[model.wide]
input = [3]
classes = 2
layers = [{ kind = "dense", units = 8 }, { kind = "relu" }, { kind = "dense", units = 2 }]

[[stage]]
name = "a"
kind = "train"
model = "net"
dataset = "rows"
batch_size = 8

[[stage]]
name = "b"
kind = "train"
model = "wide"
dataset = "rows"
batch_size = 8
)";

class Check : public testing::Test {
 protected:
  void SetUp() override {
    directory_ =
        fs::path(testing::TempDir()) /
        (std::string("impart-check-") + testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(directory_);
    std::ofstream rows(directory_ / "rows.csv");
    for (int i = 0; i < 20; ++i) rows << i << ",1,2," << i % 2 << '\n';
  }
  void TearDown() override { fs::remove_all(directory_); }

  [[nodiscard]] Deck deck(const std::string& text, Problems& problems) const {
    return read_deck(text, directory_ / "t.toml", {"run.output='" + (directory_ / "runs").string() + "'"},
                     problems);
  }

  [[nodiscard]] std::vector<std::string> problems(const std::string& text,
                                                  const CheckOptions& options = {}) const {
    Problems found;
    check_deck(deck(text, found), options, found);
    return found.lines();
  }

  fs::path directory_;
};

TEST_F(Check, FindsNothingInAGoodDeck) { EXPECT_THAT(problems(kDeck), IsEmpty()); }

TEST_F(Check, ModelsThatDoNotMerge) {
  EXPECT_THAT(problems(std::string(kDeck) + "[[stage]]\nname = 'm'\nkind = 'merge'\ninputs = ['a', 'b']\n"),
              ElementsAre(HasSubstr("stage.m.inputs: 'a' and 'b' are of different architectures")));
}

TEST_F(Check, AMergeIsRecalibratedOnDataThatFit) {
  const std::string normed =
      "[model.normed]\ninput = [3]\nclasses = 2\n"
      "layers = [{ kind = 'batch_norm' }, { kind = 'dense', units = 2 }]\n"
      "[[stage]]\nname = 'n'\nkind = 'train'\nmodel = 'normed'\ndataset = 'rows'\nbatch_size = 16\n";
  CheckOptions options;
  std::string more;
  const auto merge = [&](const std::string& input, const std::string& dataset) {
    return problems(
        std::string(kDeck) + normed +
            "[dataset.tests]\nformat = 'csv'\nfile = 'rows.csv'\nclasses = 2\nsplit = { test = 1.0 }\n"
            "[[stage]]\nname = 'm'\nkind = 'merge'\ninputs = ['" +
            input + "', '" + input + "']\nrecalibrate = '" + dataset + "'\n" + more,
        options);
  };
  EXPECT_THAT(merge("n", "rows"), IsEmpty());
  EXPECT_THAT(merge("a", "rows"),
              ElementsAre(HasSubstr(
                  "stage.m.recalibrate: model 'net' has no batch_norm: there is nothing to recalibrate")));
  EXPECT_THAT(merge("n", "row"), ElementsAre(HasSubstr("stage.m.recalibrate: there is no [dataset.row]")));
  EXPECT_THAT(merge("n", "tests"),
              ElementsAre(HasSubstr("stage.m.recalibrate: dataset 'tests' has no train part")));
  more = "batch_size = 20\n";
  EXPECT_THAT(merge("n", "rows"), ElementsAre(HasSubstr("stage.m.batch_size: expected a multiple of the 8")));
  more = "batch_size = 8\n";
  EXPECT_THAT(merge("n", "rows"), ElementsAre(HasSubstr("stage.m.batch_size: a shard of one sample")));
  more = "batch_size = 16000000\n";
  options.memory_per_rank = 50'000'000;
  EXPECT_THAT(merge("n", "rows"), ElementsAre(HasSubstr("stage.m: a recalibration needs about")));
}

TEST_F(Check, StagesSayWhatTheyDo) {
  Problems none;
  const auto what = [&](const std::string& stage) {
    return deck(std::string(kDeck) + "[[stage]]\nname = 's'\n" + stage, none).stages.back()->describe();
  };
  EXPECT_EQ(what("kind = 'train'\nmodel = 'net'\ndataset = 'rows'\norder = 'cyclic'\nparts = 2"),
            "train net on 2 parts of rows, 1 round");
  EXPECT_EQ(what("kind = 'merge'\ninputs = ['a', 'b']"), "linear of a, b");
  EXPECT_EQ(what("kind = 'merge'\ninputs = ['a', 'b']\nrecalibrate = 'rows'"),
            "linear of a, b, recalibrated on rows");
  EXPECT_EQ(what("kind = 'evaluate'\nmodels = 'a'\ndataset = 'rows'"), "evaluate 1 model on rows");
  EXPECT_EQ(what("kind = 'federate'\nmodel = 'net'\ndataset = 'rows'\nclients = 2\nrounds = 3"),
            "federate 2 clients, 3 rounds");
}

TEST_F(Check, AnEnsembleOfEnsembles) {
  EXPECT_THAT(
      problems(std::string(kDeck) + "[[stage]]\nname = 'e'\nkind = 'ensemble'\nmembers = ['a', 'b']\n" +
               "[[stage]]\nname = 'f'\nkind = 'ensemble'\nmembers = ['a', 'e']\n"),
      ElementsAre(HasSubstr("stage.f.members: expected one network, got the ensemble 'e'")));
}

TEST_F(Check, AnEvaluationIsNoModel) {
  EXPECT_THAT(
      problems(std::string(kDeck) +
               "[[stage]]\nname = 'v'\nkind = 'evaluate'\nmodels = 'a'\ndataset = 'rows'\n" +
               "[[stage]]\nname = 'd'\nkind = 'distil'\nteachers = 'v'\nmodel = 'net'\ndataset = 'rows'\n"),
      ElementsAre(HasSubstr("stage.d.teachers: 'v' leaves no model")));
}

TEST_F(Check, APartThatTheDatasetDoesNotHave) {
  EXPECT_THAT(
      problems(std::string(kDeck) +
               "[[stage]]\nname = 'v'\nkind = 'evaluate'\nmodels = 'a'\ndataset = 'rows'\npart = 'test'\n"),
      ElementsAre(HasSubstr("stage.v.dataset: dataset 'rows' has no test part")));
}

TEST_F(Check, AFreezeThatMatchesNothing) {
  EXPECT_THAT(
      problems(std::string(kDeck) +
               "[[stage]]\nname = 't'\nkind = 'transfer'\nfrom = 'a'\ndataset = 'rows'\nfreeze = 'conv*'\n"),
      ElementsAre(HasSubstr(
          "stage.t.freeze: 'conv*' matches no parameter's whole name, as 'conv1.*' would (dense1.weight")));
}

TEST_F(Check, ATransferBetweenArchitectures) {
  EXPECT_THAT(
      problems(std::string(kDeck) +
               "[[stage]]\nname = 't'\nkind = 'transfer'\nfrom = 'a'\nmodel = 'wide'\ndataset = 'rows'\n"),
      ElementsAre(HasSubstr("dense1.weight")));
}

TEST_F(Check, AShardOfOneSampleHasNoStatistics) {
  const std::string deck =
      std::string(kDeck) +
      "[model.normed]\ninput = [3]\nclasses = 2\n"
      "layers = [{ kind = 'dense', units = 4 }, { kind = 'batch_norm' }, { kind = 'dense', units = 2 }]\n"
      "[[stage]]\nname = 'n'\nkind = 'train'\nmodel = 'normed'\ndataset = 'rows'\n";
  EXPECT_THAT(
      problems(deck + "batch_size = 8\n"),
      ElementsAre(HasSubstr("stage.n.batch_size: a shard of one sample gives layer 'bn1' one value")));
  EXPECT_THAT(problems(deck + "batch_size = 16\n"), IsEmpty());
}

TEST_F(Check, BatchNormOverRanks) {
  const std::string deck =
      std::string(kDeck) +
      "[model.normed]\ninput = [3]\nclasses = 2\n"
      "layers = [{ kind = 'dense', units = 4 }, { kind = 'batch_norm', sync = true }, { kind = 'dense', "
      "units = 2 }]\n"
      "[[stage]]\nname = 'n'\nkind = 'train'\nmodel = 'normed'\ndataset = 'rows'\nbatch_size = 24\n";
  const auto alone = ElementsAre(
      HasSubstr("stage.n: layer 'bn1': batch norm with `sync` has nothing to synchronise on one rank "
                "(expected at least 2"));
  CheckOptions options;
  EXPECT_THAT(problems(deck, options), alone);
  options.ranks_known = false;
  EXPECT_THAT(problems(deck, options), IsEmpty());
  options = {};
  options.ranks = 2;
  EXPECT_THAT(problems(deck, options), IsEmpty());
  EXPECT_THAT(problems(deck + "ranks = 1\n", options), alone);
  EXPECT_THAT(problems(deck + "mesh = { tensor = 2 }\n", options), alone);
  EXPECT_THAT(problems(deck + "[run]\nshards = 6\n", options),
              Contains(AllOf(HasSubstr("stage.n: layer 'bn1', `sync`"), HasSubstr("a power of two"),
                             HasSubstr("got 6"))));
  options.ranks = 1;
  EXPECT_THAT(problems(deck + "freeze = 'bn1.*'\n", options), IsEmpty());
  // The one value of a channel in each shard is enough.
  options.ranks = 2;
  auto small = deck;
  small.replace(small.rfind("24"), 2, "8");
  EXPECT_THAT(problems(small, options), IsEmpty());
  // A federation's client has a batch, and statistics, of its own.
  EXPECT_THAT(problems(deck.substr(0, deck.find("[[stage]]\nname = 'n'")) +
                           "[[stage]]\nname = 'f'\nkind = 'federate'\nmodel = 'normed'\ndataset = 'rows'\n"
                           "clients = 2\nlocal_epochs = 1\nbatch_size = 4\n",
                       {}),
              IsEmpty());
}

TEST_F(Check, ChangesThatDoNotFitTheSamples) {
  const std::string deck = kDeck;
  EXPECT_THAT(problems(deck + "augment = [{ kind = 'noise' }, { kind = 'mixup', alpha = 0.4 }]\n"),
              IsEmpty());
  EXPECT_THAT(
      problems(deck + "augment = [{ kind = 'noise' }, { kind = 'flip' }]\n"),
      ElementsAre(HasSubstr("stage.b.augment[2]: flip changes images: expected samples of shape (C, H, W)")));
  EXPECT_THAT(problems(deck + "augment = [{ kind = 'mixupp' }]\n"),
              ElementsAre(HasSubstr("(did you mean 'mixup'?)")));
  EXPECT_THAT(problems(deck + "augment = [{ kind = 'noise', probabilty = 1 }]\n"),
              ElementsAre(HasSubstr("unknown key 'probabilty' (did you mean 'probability'?)")));
  EXPECT_THAT(problems(deck + "augment = [{ kind = 'noise', deviation = 1 }]\n"),
              ElementsAre(HasSubstr("augment[1].deviation: is called `std` now")));
  EXPECT_THAT(problems(deck + "augment = [{ kind = 'noise', probability = 2 }]\n"),
              ElementsAre(HasSubstr("stage.b.augment[1].probability: expected at least 0 and at most 1")));
}

TEST_F(Check, ANormalisationOfTheDecks) {
  const auto with = [](const std::string& normalise) {
    std::string deck = kDeck;
    return deck.insert(deck.find("[model.net]"), "normalise = " + normalise + "\n");
  };
  EXPECT_THAT(problems(with("{ mean = [0.5], std = [2] }")), IsEmpty());
  EXPECT_THAT(problems(with("{ mean = [0.5, 1], std = [2, 1] }")),
              ElementsAre(HasSubstr("`normalise` does not fit the channels: expected 1 means")));
  EXPECT_THAT(problems(with("{ mean = [0.5], std = [2, 1] }")),
              ElementsAre(HasSubstr("dataset.rows.normalise: expected a mean")));
  EXPECT_THAT(problems(with("{ mean = [0.5] }")),
              ElementsAre(HasSubstr("dataset.rows.normalise: 'std' is missing")));
  EXPECT_THAT(problems(with("{ mean = [0.5], std = [0] }")), ElementsAre(HasSubstr("above 0")));
}

TEST_F(Check, Texts) {
  std::ofstream(directory_ / "t.txt") << "abcabdabcabd";
  std::ofstream(directory_ / "short.txt") << "abab";
  const auto with = [](const std::string& settings) {
    return std::string(kDeck) + "[dataset.text]\nformat = 'text'\ncontext = 3\n" + settings + '\n';
  };
  EXPECT_THAT(problems(with("file = 't.txt'\nclasses = 4\nstride = 1")), IsEmpty());
  EXPECT_THAT(problems(with("file = 't.txt'\nclasses = 5")),
              ElementsAre(HasSubstr("dataset.text: `classes` is not the number of characters: expected 4")));
  EXPECT_THAT(problems(with("file = 'short.txt'\nclasses = 2")), IsEmpty());
  EXPECT_THAT(problems(with("file = 'short.txt'\nvocabulary = 't.txt'\nclasses = 4")), IsEmpty());
  EXPECT_THAT(problems(with("file = 't.txt'\nvocabulary = 'short.txt'\nclasses = 2")),
              ElementsAre(HasSubstr("a character that its vocabulary does not have")));
  EXPECT_THAT(problems(with("file = 't.txt'\nclasses = 4\nlimit = { train = 2 }")),
              ElementsAre(HasSubstr("unknown key 'limit'")));
  // A model that gives one prediction a sample is none of a text.
  auto text = with("file = 't.txt'\nclasses = 4\n");
  text +=
      "[model.one]\ninput = [3]\nclasses = 4\nlayers = [{ kind = 'dense', units = 4 }]\n"
      "[[stage]]\nname = 'c'\nkind = 'train'\nmodel = 'one'\ndataset = 'text'\nbatch_size = 8\n";
  EXPECT_THAT(problems(text),
              ElementsAre(HasSubstr("gives 1 predictions a sample, dataset 'text' has 3 labels")));
  EXPECT_THAT(problems(text + "augment = [{ kind = 'noise' }]"),
              ElementsAre(HasSubstr("gives 1 predictions"),
                          HasSubstr("stage.c.augment: changes samples with one label")));
}

TEST_F(Check, TeachersKnowNoMixtures) {
  EXPECT_THAT(
      problems(std::string(kDeck) + "[[stage]]\nname = 'd'\nkind = 'distil'\nteachers = 'a'\nmodel = 'net'\n"
                                    "dataset = 'rows'\nbatch_size = 8\naugment = [{ kind = 'mixup' }]\n"),
      ElementsAre(HasSubstr("stage.d.augment: teachers are asked once about each sample")));
}

TEST_F(Check, SolversWantModelsThatTheyCanSolveFor) {
  const std::string deck =
      std::string(kDeck) +
      "[model.line]\ninput = [3]\nclasses = 2\nlayers = [{ kind = 'dense', units = 2 }]\n"
      "[[stage]]\nname = 's'\nkind = 'train'\ndataset = 'rows'\n"
      "optimizer = { kind = 'least_squares', ridge = 1 }\n";
  EXPECT_THAT(problems(deck + "model = 'line'\n"), IsEmpty());
  EXPECT_THAT(problems(deck + "model = 'net'\n"),
              ElementsAre(HasSubstr("stage.s.optimizer: least_squares cannot solve for model 'net': it takes "
                                    "(flatten and) one dense layer, and 'relu1' is of kind relu")));
}

TEST_F(Check, WhatDoesNotGoTogether) {
  const std::string deck = kDeck;
  EXPECT_THAT(
      problems(deck + "objective = { kind = 'cross_entropy', class_weights = [1, 2, 3] }\n"),
      ElementsAre(HasSubstr("stage.b.objective: expected 2 class_weights, one for each class, got 3")));
  EXPECT_THAT(problems(deck + "average = { kind = 'swa' }\nkeep = 'best'\n"),
              ElementsAre(HasSubstr("stage.b.keep: the mean of several epochs' weights is kept")));
  std::string no_validation = deck + "schedule = { kind = 'plateau' }\n";
  const std::string split = "split = { train = 0.5, validation = 0.5 }\n";
  no_validation.erase(no_validation.find(split), split.size());
  EXPECT_THAT(problems(no_validation), ElementsAre(HasSubstr("stage.b.schedule: needs validation data")));
}

TEST_F(Check, AModelWithoutLayers) {
  std::string deck = kDeck;
  const auto layers = deck.find("layers = [");
  deck.replace(layers, deck.find('\n', layers) - layers, "layers = []");
  EXPECT_THAT(problems(deck), ElementsAre(HasSubstr("model.net.layers: expected at least one layer")));
}

TEST_F(Check, RanksAndMeshAndMemory) {
  EXPECT_THAT(
      problems(kDeck, {.ranks = 3, .threads = 1, .memory_per_rank = 0, .only = {}}),
      ElementsAre(HasSubstr("run.shards: ranks: expected a number that divides the 8 shards: 1, 2, 4, 8, "
                            "got 3 (change `mpirun -n`, or run.shards)")));
  EXPECT_THAT(problems(std::string(kDeck) + "mesh = { data = 4 }\n",
                       {.ranks = 2, .threads = 1, .memory_per_rank = 0, .only = {}}),
              ElementsAre(HasSubstr("stage.b.mesh: the mesh does not have as many places as there are ranks: "
                                    "expected 2 ranks, got 4 x 1 x 1")));
  EXPECT_THAT(problems(kDeck, {.ranks = 1, .threads = 1, .memory_per_rank = 100, .only = {}}),
              ElementsAre(HasSubstr("stage.a: needs about"), HasSubstr("stage.b: needs about")));
}

TEST_F(Check, WrongRanksAreToldOnceWhereTheyAreGiven) {
  const auto with = [&](const std::string& more, int ranks) {
    CheckOptions options;
    options.ranks = ranks;
    return problems(std::string(kDeck) + more + "\n", options);
  };
  EXPECT_THAT(with("ranks = 3", 4),
              ElementsAre(AllOf(HasSubstr("stage.b.ranks: expected a number that divides the 8 shards"),
                                HasSubstr("got 3 (change it, or run.shards)"))));
  EXPECT_THAT(with("ranks = 3\nmesh = { data = 3 }", 4), ElementsAre(HasSubstr("stage.b.ranks: expected")));
  EXPECT_THAT(with("ranks = 3", 3), ElementsAre(HasSubstr("run.shards: ranks")));
  EXPECT_THAT(with("mesh = { data = 3 }", 3), ElementsAre(HasSubstr("run.shards: ranks")));
  EXPECT_THAT(with("mesh = { data = 3, tensor = 2 }", 6),
              ElementsAre(AllOf(HasSubstr("stage.b.mesh: ranks of the data axis: expected a number"),
                                HasSubstr("got 3 (change mesh.data, or run.shards)"))));
  EXPECT_THAT(
      with("mesh = { tensor = 2 }\nranks = 6", 8),
      ElementsAre(AllOf(HasSubstr("stage.b.mesh: ranks of the data axis"), HasSubstr("change `ranks`"))));
  EXPECT_THAT(
      with("ranks = 5", 2),
      ElementsAre(HasSubstr("stage.b.ranks: the stage asks for 5 ranks, and there are 2 (start as many, "
                            "or give fewer)")));
  EXPECT_THAT(with("ranks = 2", 1), ElementsAre(HasSubstr("asks for 2 ranks, and there is 1 (")));
  EXPECT_THAT(
      with("mesh = { tensor = 5 }", 4),
      ElementsAre(HasSubstr("stage.b.mesh: mesh.tensor = 5 does not divide 4 ranks: expected 1, 2 or 4"),
                  HasSubstr("the tensor axis does not divide the channels")));
}

TEST_F(Check, StagesThatDoNotRunNeedNoRanks) {
  const auto deck = std::string(kDeck) + "mesh = { tensor = 2 }\n";
  CheckOptions options;
  EXPECT_THAT(problems(deck, options), ElementsAre(HasSubstr("stage.b.mesh")));
  options.only = {"a"};
  EXPECT_THAT(problems(deck, options), IsEmpty());
  EXPECT_THAT(problems(std::string(kDeck) + "ranks = 2\n", options), IsEmpty());
  options.only = {};
  options.finished = {"b"};
  EXPECT_THAT(problems(deck, options), IsEmpty());
  options.only = {"b"};
  options.finished = {};
  EXPECT_THAT(problems(deck, options), ElementsAre(HasSubstr("stage.b.mesh")));
}

TEST_F(Check, AnEpochOfOneUpdateIsNoted) {
  const auto notes = [&](const std::string& text) {
    Problems none;
    const auto said = check_deck(deck(text, none), {}, none);
    EXPECT_THAT(none.lines(), IsEmpty());
    return said;
  };
  const std::string text = kDeck;
  EXPECT_THAT(notes(text), Each(Not(HasSubstr("an epoch"))));
  EXPECT_THAT(
      notes(text + "accumulate = 2\n"),
      Contains(HasSubstr("stage.b.accumulate: an update takes 16 samples, and there are 10 to train on: one "
                         "update an epoch")));
  EXPECT_THAT(notes(text + "train_part = { of = 2 }\n"),
              Contains(HasSubstr("stage.b.batch_size: an update takes 8")));
}

/// FLamby #260, FedScale #57: not in the first round of the run.
TEST_F(Check, ClientsHaveSamplesEnough) {
  const auto federation = [](const std::string& settings, bool normed) {
    std::string text = std::string(kDeck) + "[[stage]]\nname = 'f'\nkind = 'federate'\nmodel = 'net'\n" +
                       "dataset = 'rows'\nbatch_size = 4\n" + settings;
    if (normed) text.replace(text.find("{ kind = \"relu\" }"), 17, "{ kind = 'batch_norm' }");
    return text;
  };
  const auto only = [](const std::vector<std::string>& all) {
    std::vector<std::string> found;
    std::ranges::copy_if(all, std::back_inserter(found),
                         [](const auto& line) { return line.find("stage.f") != std::string::npos; });
    return found;
  };
  const auto of = [&](const std::string& settings, bool normed) {
    return only(problems(federation(settings, normed)));
  };
  EXPECT_THAT(of("clients = 8\n", false), IsEmpty());
  EXPECT_THAT(of("clients = 8\n", true), ElementsAre(AllOf(HasSubstr("stage.f.clients: training on 1 sample"),
                                                           HasSubstr("layer 'bn1'"))));
  EXPECT_THAT(of("clients = 8\nfreeze = 'bn1.*'\n", true), IsEmpty());
  EXPECT_THAT(of("clients = 2\n", true), IsEmpty());
  const std::string dealt = "partition = { kind = 'dirichlet', min_samples = ";
  EXPECT_THAT(of("clients = 4\n" + dealt + "10 }\n", false),
              ElementsAre(HasSubstr("stage.f.partition.min_samples: expected at most")));
  EXPECT_THAT(of("clients = 4\n" + dealt + "2 }\n", true), IsEmpty());
  EXPECT_THAT(of("clients = 4\n" + dealt + "1 }\n", true),
              ElementsAre(HasSubstr("stage.f.partition.min_samples: training on 1 sample")));
}

TEST_F(Check, MetricsOfAnEvaluation) {
  const auto with = [](const std::string& metrics) {
    return std::string(kDeck) + "[[stage]]\nname = 'e'\nkind = 'evaluate'\nmodels = 'a'\ndataset = 'rows'\n" +
           "metrics = " + metrics + "\n";
  };
  EXPECT_THAT(problems(with("['accuracy', { kind = 'top_k_accuracy', k = 1 }]")), IsEmpty());
  EXPECT_THAT(problems(with("['acuracy']")), ElementsAre(HasSubstr("did you mean 'accuracy'?")));
  EXPECT_THAT(problems(with("[{ kind = 'top_k_accuracy', k = 5 }]")),
              ElementsAre(HasSubstr("stage.e.metrics: ")));
}

TEST_F(Check, AlgorithmsOfAFederationRefuseWhatTheyCannotTake) {
  const auto with = [](const std::string& settings) {
    return std::string(kDeck) +
           "[[stage]]\nname = 'f'\nkind = 'federate'\nmodel = 'net'\ndataset = 'rows'\n" +
           "clients = 2\nbatch_size = 4\n" + settings;
  };
  EXPECT_THAT(problems(with("algorithm = 'scaffold'\n")), IsEmpty());
  EXPECT_THAT(problems(with("algorithm = 'scaffold'\noptimizer = { kind = 'sgd', momentum = 0.9 }\n")),
              ElementsAre(AllOf(HasSubstr("stage.f.optimizer: "), HasSubstr("plain SGD"))));
  EXPECT_THAT(problems(with("algorithm = 'fedprux'\n")), ElementsAre(HasSubstr("did you mean 'fedprox'?")));
}

TEST_F(Check, RanksOfANodeShareItsMemory) {
  const auto deck = std::string(kDeck) +
                    "[[stage]]\nname = 'f'\nkind = 'federate'\nmodel = 'net'\ndataset = 'rows'\n"
                    "clients = 2\nrounds = 1\nbatch_size = 4\n";
  EXPECT_THAT(problems(deck), IsEmpty());
  // Each takes some 40 MB for the program alone.
  EXPECT_THAT(
      problems(deck, {.memory_per_rank = 0, .ranks_of_node = 1'000'000, .only = {}}),
      ElementsAre(AllOf(HasSubstr("stage.f: needs about"), HasSubstr("for 1000000 ranks of a node"))));
}

TEST_F(Check, MeshesWithATensorAxis) {
  const auto deck = [](const std::string& mesh) { return std::string(kDeck) + "mesh = " + mesh + "\n"; };
  const auto ranks = [](int n) {
    return CheckOptions{.ranks = n, .threads = 1, .memory_per_rank = 0, .only = {}};
  };
  EXPECT_THAT(problems(deck("{ tensor = 2 }"), ranks(4)), IsEmpty());
  EXPECT_THAT(problems(deck("{ data = 2, tensor = 2 }"), ranks(8)),
              ElementsAre(HasSubstr(
                  "stage.b.mesh: the mesh does not have as many places as there are ranks: expected "
                  "8 ranks, got 2 x 1 x 2")));
  EXPECT_THAT(
      problems(deck("{ tensor = 5 }"), ranks(5)),
      ElementsAre(AllOf(HasSubstr("stage.b.mesh: model 'wide': layer"),
                        HasSubstr("the tensor axis does not divide the channels"), HasSubstr("would do"))));
  EXPECT_THAT(problems(deck("{ tensor = 2 }"), ranks(32)),
              ElementsAre(HasSubstr("stage.b.mesh: ")));  // 16 shards
  EXPECT_THAT(problems(deck("{ pipeline = 2 }"), ranks(2)), ElementsAre(HasSubstr("only 1 is possible yet")));
}

TEST_F(Check, SaysWhatTrainingTakes) {
  Problems none;
  const auto read = deck(std::string(kDeck) + "mesh = { tensor = 2 }\n", none);
  const auto notes = check_deck(read, {.ranks = 4, .threads = 1, .memory_per_rank = 0, .only = {}}, none);
  ASSERT_EQ(notes.size(), 2U);
  EXPECT_THAT(notes[0],
              AllOf(HasSubstr("stage.a: mesh data 4 x pipeline 1 x tensor 1; memory of a rank"),
                    HasSubstr("activations"), HasSubstr("on the data axis"), Not(HasSubstr("tensor axis"))));
  EXPECT_THAT(notes[1], AllOf(HasSubstr("stage.b: mesh data 2 x pipeline 1 x tensor 2"),
                              HasSubstr("on the tensor axis a step")));
}

TEST_F(Check, AStageThatIsNotThereIsNotRun) {
  EXPECT_THAT(problems(kDeck, {.ranks = 1, .threads = 1, .memory_per_rank = 0, .only = {"a", "c"}}),
              ElementsAre(HasSubstr("--stages: there is no stage 'c'")));
}

TEST_F(Check, OneMistakeIsOneProblem) {
  // The stage whose kind is unknown is named by another, which is not to blame.
  EXPECT_THAT(
      problems(std::string(kDeck) + "[[stage]]\nname = 'x'\nkind = 'mergee'\n" +
               "[[stage]]\nname = 'y'\nkind = 'train'\nmodel = 'net'\ndataset = 'rows'\ninit = 'x'\n"),
      ElementsAre(HasSubstr("did you mean 'merge'?")));
}

TEST_F(Check, LocalStepsAreNotForEverything) {
  const auto with = [&](const std::string& more) {
    return std::string(kDeck).insert(std::string(kDeck).find("batch_size"), more + "\n");
  };
  EXPECT_THAT(problems(with("local_steps = 4")), IsEmpty());
  EXPECT_THAT(problems(with("local_steps = 4\naccumulate = 2")),
              ElementsAre(HasSubstr("stage.a.local_steps: every local step is an update")));
  CheckOptions two;
  two.ranks = 2;
  EXPECT_THAT(problems(with("local_steps = 4\nmesh = { tensor = 2 }"), two),
              ElementsAre(HasSubstr("stage.a.local_steps: each shard trains the whole model by itself")));
  EXPECT_THAT(problems(with("local_steps = 0")),
              ElementsAre(HasSubstr("stage.a.local_steps: expected at least 1")));
  auto solved = with("local_steps = 4\noptimizer = 'lbfgs'");
  solved.replace(solved.find("optimizer = 'lbfgs'"), 19, "optimizer = { kind = 'lbfgs' }");
  EXPECT_THAT(problems(solved),
              ElementsAre(HasSubstr("stage.a.local_steps: lbfgs does not work step by step")));

  auto synced = with("local_steps = 4");
  synced.replace(synced.find("{ kind = \"relu\" }"), 17, "{ kind = 'batch_norm', sync = true }");
  EXPECT_THAT(problems(synced),
              ElementsAre(HasSubstr("stage.a.local_steps: layer 'bn1': each shard trains")));

  // What workers have of their own is counted, and how much less is sent.
  Problems none;
  const auto line = [&](const std::string& text) { return check_deck(deck(text, none), two, none).front(); };
  const auto big = [](std::string text) { return text.replace(text.find("units = 4"), 9, "units = 100000"); };
  EXPECT_THAT(line(big(with("local_steps = 8"))),
              AllOf(HasSubstr("parameters 12 MB"), HasSubstr("a rank sends 0.3 MB on the data axis a step")));
  EXPECT_THAT(line(big(kDeck)), AllOf(HasSubstr("parameters 2.4 MB"),
                                      HasSubstr("a rank sends 2.4 MB on the data axis a step")));
  EXPECT_TRUE(none.lines().empty());
}

TEST_F(Check, CyclicOrderHasLocalBatches) {
  const auto with = [&](const std::string& settings) {
    const std::string text = kDeck;
    return std::string(text).replace(text.find("batch_size = 8"), 14, "order = 'cyclic'\n" + settings);
  };
  EXPECT_THAT(problems(with("epochs = 3\nparts = 4\nlocal_epochs = 2\nlocal_batch_size = 16")), IsEmpty());
  EXPECT_THAT(problems(with("batch_size = 16")),
              ElementsAre(AllOf(HasSubstr("stage.a.batch_size: is a batch of all ranks together"),
                                HasSubstr("give `local_batch_size`"))));
  EXPECT_THAT(problems(with("local_batch_size = 12")),
              ElementsAre(HasSubstr("stage.a.local_batch_size: expected a multiple of the 8 shards")));
  EXPECT_THAT(problems(with("parts = 10")), IsEmpty());
  EXPECT_THAT(
      problems(with("parts = 11")),
      ElementsAre(HasSubstr("stage.a.parts: expected at most one part a training sample, 10, got 11")));
  for (const auto* other :
       {"local_steps = 2", "average = { kind = 'ema' }", "keep = 'best'", "early_stopping = { patience = 1 }",
        "schedule = { kind = 'plateau' }", "mesh = { tensor = 2 }", "optimizer = { kind = 'lbfgs' }"}) {
    EXPECT_THAT(problems(with(other)), ElementsAre(HasSubstr("visits one part after another"))) << other;
  }
  const std::string text = kDeck;
  EXPECT_THAT(problems(text + "local_batch_size = 8\nparts = 2\n"),
              ElementsAre(HasSubstr("stage.b.local_batch_size: only with order = \"cyclic\""),
                          HasSubstr("stage.b.parts: only with order = \"cyclic\"")));
  // Of a misspelt order, the other keys say which was meant.
  const std::string cyclic = with("parts = 4\nlocal_epochs = 2\nlocal_batch_size = 16");
  EXPECT_THAT(problems(std::string(cyclic).replace(cyclic.find("'cyclic'"), 8, "'cyclical'")),
              ElementsAre(AllOf(HasSubstr("stage.a.order: expected"), HasSubstr("did you mean 'cyclic'?"))));
  EXPECT_THAT(problems(text + "order = 'togeter'\n"), ElementsAre(HasSubstr("stage.b.order: expected")));
}

TEST_F(Check, KeysFollowWhatBearsOnTheResult) {
  Problems none;
  const auto key = [&](const std::string& text, const std::string& digest = "1") {
    const auto read = deck(text, none);
    return stage_key(read, *read.stages.at(0), {{"init", digest}}, {{"rows", "2"}});
  };
  const std::string text = kDeck;
  const auto with = [&](const std::string& more) {
    return std::string(text).insert(text.find("batch_size"), more + "\n");
  };
  const auto first = key(text);
  EXPECT_EQ(first, key(text));
  EXPECT_EQ(first, key(with("epochs = 1")));  // the default, written out
  EXPECT_EQ(first, key(with("mesh = { data = 2 }")));
  EXPECT_NE(first, key(with("epochs = 2")));
  EXPECT_NE(first, key(text + "[run]\nseed = 1\n"));
  EXPECT_NE(first, key(text + "[run]\nshards = 4\n"));
  EXPECT_NE(first, key(text, "another parent"));
  auto units = text;
  units.replace(units.find("units = 4"), 9, "units = 5");
  EXPECT_NE(first, key(units));
  auto moved = text;
  moved.replace(moved.find("rows.csv"), 8, "elsewhere.csv");
  EXPECT_EQ(first, key(moved));  // the fingerprint says what was read
}

TEST_F(Check, SaysWhichSettingsHaveChanged) {
  Problems none;
  const auto settings = [&](const std::string& text) {
    const auto read = deck(text, none);
    return resolved_settings(read, *read.stages.at(0));
  };
  const std::string text = kDeck;
  auto other = text;
  other.replace(other.find("units = 4"), 9, "units = 5");
  other.insert(other.find("batch_size"), "epochs = 2\nmesh = { data = 2 }\naugment = [{ kind = 'noise' }]\n");
  EXPECT_THAT(changed_settings(settings(text), settings(text)), IsEmpty());
  EXPECT_THAT(
      changed_settings(settings(text), settings(other)),
      ElementsAre("stage.epochs 1 -> 2", "models.net.layers.0.units 4 -> 5",
                  "stage.augment.0.kind nothing -> \"noise\"", "stage.augment.0.probability nothing -> 1.0",
                  "stage.augment.0.std nothing -> 0.1"));
}

TEST_F(Check, DatasetsWithoutLabelsAreForPredictionsOnly) {
  std::string text = kDeck;
  text.insert(text.find("split = "), "label = ''\n");
  for (auto at = text.find("input = [3]"); at != std::string::npos; at = text.find("input = [3]")) {
    text.replace(at, 11, "input = [4]");
  }
  EXPECT_THAT(problems(text), ElementsAre(HasSubstr("stage.a.dataset: dataset 'rows' has no labels"),
                                          HasSubstr("stage.b.dataset: dataset 'rows' has no labels")));
  text.insert(text.find("split = "), "limit = { train = 2 }\n");
  EXPECT_THAT(problems(text),
              ElementsAre(HasSubstr("dataset.rows: `limit` counts labels, and there are none")));
}

TEST_F(Check, TheRecordComesBack) {
  Problems none;
  const auto both = deck(kDeck, none);
  RunRecord record(directory_, both, 2, 1);
  StageRecord stage;
  stage.name = "b";
  stage.kind = "train";
  stage.status = "done";
  stage.key = "k";
  stage.digest = "d";
  stage.seconds = 1.5;
  stage.note = "early, epoch 7 of 20";
  stage.metrics = {{"validation.accuracy", 0.5}};
  stage.measurements = {{"m", "rows", "all", 20, {{"accuracy", 0.25}}}};
  record.put(stage);

  RunRecord again(directory_, both, 1, 1);
  again.load();
  EXPECT_EQ(again.find("a"), nullptr);
  const auto* found = again.find("b");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->key, "k");
  EXPECT_EQ(found->seconds, 1.5);
  EXPECT_EQ(found->note, "early, epoch 7 of 20");
  EXPECT_EQ(found->metrics.at("validation.accuracy"), 0.5);
  ASSERT_EQ(found->measurements.size(), 1U);
  EXPECT_EQ(found->measurements[0].metrics.at("accuracy"), 0.25);

  auto shorter = both;
  shorter.stages.pop_back();  // the deck has no b any more
  RunRecord without(directory_, shorter, 1, 1);
  without.load();
  EXPECT_EQ(without.find("b"), nullptr);

  std::ofstream(directory_ / "run.json") << "{";
  RunRecord damaged(directory_, both, 1, 1);
  damaged.load();
  EXPECT_EQ(damaged.find("b"), nullptr);
}

TEST(ClosingTable, IsAligned) {
  RunReport report;
  report.stages.push_back({"teacher",
                           "train net",
                           "early, epoch 7 of 20",
                           StageStatus::kDone,
                           1.25,
                           "runs/t/teacher/model.h5",
                           {{"validation.accuracy", 0.978}},
                           {},
                           {{0, {6, 2, 1, 1}}, {3, {9, 1, 0, 0}}}});
  report.stages.push_back({"e",
                           "evaluate",
                           "",
                           StageStatus::kReused,
                           0,
                           "runs/t/e/metrics.json",
                           {},
                           {{"teacher", "rows", "test", 10, {{"accuracy", 0.5}}}},
                           {}});
  EXPECT_EQ(closing_table(report),
            "stage      what                              metric                      seconds  artifact\n"
            "------------------------------------------------------------------------------------------\n"
            "teacher    train net (early, epoch 7 of 20)  97.80% validation.accuracy      1.2  "
            "runs/t/teacher/model.h5\n"
            "e          evaluate (reused)                                                 0.0  "
            "runs/t/e/metrics.json\n"
            "  teacher  on 10 samples of rows, test       50.00% accuracy\n"
            "\n"
            "stage    ranks  compute  communication  input  checkpoint  slowest rank\n"
            "-----------------------------------------------------------------------\n"
            "teacher      2    75.0%          15.0%   5.0%        5.0%  3 (+5.9%)\n");
}

}  // namespace
}  // namespace impart::stages

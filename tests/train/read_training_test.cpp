#include "impart/train/read_training.hpp"

#include <gmock/gmock.h>

namespace impart::train {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Read {
  Training training;
  std::vector<std::string> problems;
};

Read read(SettingTable table, const std::string& objective = "cross_entropy", const TrainingKeys& keys = {},
          std::span<const Capabilities> methods = {}) {
  if (find_setting(table, "dataset") == nullptr) table.emplace_back("dataset", "digits");
  Problems problems;
  const Places places;
  Settings settings(table, "stage.a", places, problems);
  auto training = read_training(settings, objective, 7, keys, methods);
  settings.finish();
  return {std::move(training), problems.lines()};
}

SettingTable kind(const char* name) { return {{"kind", name}}; }

TEST(ReadTraining, DefaultsAreThoseOfTheOptions) {
  const auto [training, problems] = read({});
  EXPECT_THAT(problems, IsEmpty());
  EXPECT_EQ(training.dataset, "digits");
  EXPECT_EQ(training.objective->kind(), "cross_entropy");
  EXPECT_EQ(training.effort(), "1 epoch");
  const auto& options = training.options;
  EXPECT_EQ(options.optimizer->kind(), "sgd");
  EXPECT_EQ(options.schedule->kind(), "constant");
  EXPECT_EQ(options.average->kind(), "none");
  EXPECT_EQ(options.solver, nullptr);
  EXPECT_EQ(options.seed, 7U);
  EXPECT_EQ(options.batch_size, 64);
  EXPECT_THAT(options.transforms, IsEmpty());
}

TEST(ReadTraining, AllThatAStageSays) {
  const auto [training, problems] =
      read({{"epochs", 3},
            {"batch_size", 128},
            {"optimizer",
             SettingTable{{"kind", "rmsprop"}, {"centered", true}, {"clip_norm", 2}, {"clip_value", 1}}},
            {"objective", SettingTable{{"label_smoothing", 0.1}, {"l2", 1e-4}}},
            {"accumulate", 4},
            {"transforms", SettingArray{SettingTable{{"kind", "proximal"}, {"mu", 0.1}}}},
            {"train_part", SettingTable{{"of", 4}, {"index", 3}}},
            {"schedule", SettingTable{{"kind", "multi_step"}, {"milestones", std::vector<double>{2, 3.5}}}},
            {"average", SettingTable{{"kind", "swa"}, {"start", 0.5}, {"learning_rate", 0.1}}},
            {"monitor", "loss"},
            {"early_stopping", SettingTable{{"patience", 2}}},
            {"groups", SettingArray{SettingTable{{"pattern", "conv*"}, {"learning_rate_scale", 0.1}}}},
            {"freeze", std::vector<std::string>{"bn*"}},
            {"seed", 9},
            {"mesh", SettingTable{{"tensor", 2}}}});
  EXPECT_THAT(problems, IsEmpty());
  const auto& options = training.options;
  EXPECT_EQ(options.epochs, 3);
  EXPECT_EQ(options.optimizer->slot_names().size(), 2U);
  ASSERT_EQ(options.transforms.size(), 3U);
  EXPECT_EQ(options.transforms[0]->name(), "proximal");
  EXPECT_EQ(options.transforms[1]->name(), "clip_norm");
  EXPECT_EQ(options.transforms[2]->name(), "clip_value");
  EXPECT_DOUBLE_EQ(options.l2, 1e-4);
  EXPECT_DOUBLE_EQ(training.objective->as_cross_entropy()->label_smoothing, 0.1);
  EXPECT_EQ(training.part.index, 3);
  EXPECT_EQ(options.schedule->kind(), "multi_step");
  EXPECT_TRUE(options.average->has_learning_rate());
  EXPECT_EQ(options.patience, 2);
  ASSERT_EQ(options.groups.size(), 2U);
  EXPECT_TRUE(options.groups[1].frozen);
  EXPECT_EQ(options.seed, 9U);
  EXPECT_EQ(options.mesh.tensor, 2);
}

TEST(ReadTraining, ASolverIsAnOptimizerOfItsOwnKind) {
  const auto least = read({{"optimizer", SettingTable{{"kind", "least_squares"}, {"ridge", 0.5}}}});
  EXPECT_THAT(least.problems, IsEmpty());
  EXPECT_EQ(least.training.objective->kind(), "mean_squared_error");
  EXPECT_EQ(least.training.effort(), "least_squares");
  const auto newton = read(
      {{"optimizer", SettingTable{{"kind", "newton"}, {"l2", 0.1}}}, {"objective", "binary_cross_entropy"}});
  EXPECT_THAT(newton.problems, IsEmpty());
  EXPECT_DOUBLE_EQ(newton.training.options.l2, 0.1);
  EXPECT_EQ(read({{"optimizer", kind("lbfgs")}}, "huber").training.objective->kind(), "huber");
}

TEST(ReadTraining, WhatASolverHasNoUseForIsTold) {
  EXPECT_THAT(read({{"optimizer", kind("lbfgs")}, {"epochs", 1}, {"schedule", kind("cosine")}}).problems,
              ElementsAre(HasSubstr("stage.a.epochs: lbfgs does not work step by step"),
                          HasSubstr("stage.a.schedule: lbfgs does not work step by step")));
  EXPECT_THAT(read({{"optimizer", kind("newton")}, {"freeze", "bn*"}}).problems,
              ElementsAre(HasSubstr("stage.a.freeze: newton solves for all weights")));
  EXPECT_THAT(read({{"optimizer", kind("lbfgs")}, {"freeze", "bn*"}}).problems, IsEmpty());
  EXPECT_THAT(read({{"optimizer", kind("lbfgs")}, {"mesh", SettingTable{{"tensor", 2}}}}).problems,
              ElementsAre(HasSubstr("stage.a.mesh: a solver needs the whole model on every rank")));
  EXPECT_THAT(read({{"optimizer", kind("newton")}, {"objective", "huber"}}).problems,
              ElementsAre(HasSubstr("stage.a.objective: newton minimises cross_entropy or")));
  EXPECT_THAT(read({{"optimizer", kind("least_squares")}, {"objective", "cross_entropy"}}).problems,
              ElementsAre(HasSubstr("least_squares minimises mean_squared_error")));
  EXPECT_THAT(read({{"optimizer", kind("lbfgs")}, {"objective", "hinge"}}).problems,
              ElementsAre(HasSubstr("lbfgs needs one whose slope changes without a jump")));
}

TEST(ReadTraining, ASolverOfLabelsAloneRefusesTeachers) {
  const std::vector<Capabilities> teachers{{.key = "teachers", .uses = {{Feature::kTeachers, {"teachers"}}}}};
  EXPECT_THAT(read({{"optimizer", kind("newton")}}, "cross_entropy", {}, teachers).problems,
              ElementsAre(HasSubstr("stage.a.optimizer: newton minimises an objective of labels alone")));
  EXPECT_THAT(
      read({{"optimizer", kind("least_squares")}}, "cross_entropy", {}, teachers).problems,
      ElementsAre(HasSubstr("stage.a.optimizer: least_squares minimises an objective of labels alone")));
  EXPECT_THAT(read({{"optimizer", kind("lbfgs")}}, "cross_entropy", {}, teachers).problems, IsEmpty());
}

TEST(ReadTraining, OtherMistakes) {
  EXPECT_THAT(read({{"optimizer", SettingTable{{"nesterov", true}}}}).problems,
              ElementsAre(HasSubstr("stage.a.optimizer.nesterov: needs a momentum above 0")));
  EXPECT_THAT(read({{"optimizer", kind("adan")}}).problems, ElementsAre(HasSubstr("did you mean 'adam'?")));
  EXPECT_THAT(read({{"optimizer", SettingTable{{"kind", "lbfgs"}, {"l2", 0.1}}},
                    {"objective", SettingTable{{"l2", 0.2}}}})
                  .problems,
              ElementsAre(HasSubstr("stage.a.objective.l2: the optimizer has an l2, too")));
  EXPECT_THAT(read({{"local_steps", 4}, {"accumulate", 2}}).problems,
              ElementsAre(HasSubstr("stage.a.local_steps: every local step is an update")));
  EXPECT_THAT(read({{"train_part", SettingTable{{"of", 2}, {"index", 2}}}}).problems,
              ElementsAre(HasSubstr("expected 0 to 1, got 2")));
  EXPECT_THAT(read({{"optimizer", SettingTable{{"learning_rate", 0}}},
                    {"average", SettingTable{{"kind", "swa"}, {"learning_rate", 0.1}}}})
                  .problems,
              ElementsAre(HasSubstr("stage.a.average.learning_rate: needs an optimizer")));
}

TEST(ReadTraining, AClientHasNoEpochsOfAllTheData) {
  const TrainingKeys keys{.epochs = "local_epochs", .is_client = true};
  const auto client = read({{"local_epochs", 2}}, "cross_entropy", keys);
  EXPECT_THAT(client.problems, IsEmpty());
  EXPECT_EQ(client.training.options.epochs, 2);
  EXPECT_THAT(read({{"keep", "best"}}, "cross_entropy", keys).problems,
              Contains(HasSubstr("unknown key 'keep'")));
}

TEST(ReadTraining, EverySettingIsDocumented) {
  std::vector<SettingDoc> docs;
  auto settings = Settings::defaults(&docs);
  read_training(settings, "cross_entropy", 0);
  std::vector<std::string> keys;
  for (const auto& doc : docs) {
    keys.push_back(doc.key);
    EXPECT_FALSE(doc.text.empty()) << doc.key;
  }
  for (const auto* key : {"dataset",
                          "epochs",
                          "batch_size",
                          "optimizer",
                          "optimizer.clip_norm",
                          "objective",
                          "objective.l2",
                          "schedule",
                          "average",
                          "accumulate",
                          "local_steps",
                          "augment",
                          "sampler",
                          "train_part.of",
                          "keep",
                          "monitor",
                          "early_stopping.patience",
                          "groups[].pattern",
                          "freeze",
                          "seed",
                          "mesh.tensor"})
    EXPECT_THAT(keys, Contains(key));
}

TEST(UnusedPatterns, AreToldWithTheirSetting) {
  const StateLayout layout({{"conv1.weight", Shape{3}}, {"fc.weight", Shape{2}}});
  const std::vector<ParameterGroup> groups{
      {.pattern = "conv*"}, {.pattern = "con"}, {.pattern = "bn*", .frozen = true}};
  const auto unused = unused_patterns(groups, layout);
  ASSERT_EQ(unused.size(), 2U);
  EXPECT_EQ(unused[0].key, "groups");
  EXPECT_THAT(unused[0].text, HasSubstr("'con' matches no parameter's whole name"));
  EXPECT_EQ(unused[1].key, "freeze");
}

}  // namespace
}  // namespace impart::train

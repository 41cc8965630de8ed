#include "impart/train/trainer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "impart/core/error.hpp"
#include "impart/data/batch_loader.hpp"
#include "impart/nn/network.hpp"
#include "memory_source.hpp"
#include "train/small_net.hpp"

namespace impart::train {
namespace {

using testing_support::made_up_dataset;
using testing_support::small_net;

struct Trained {
  TrainResult result;
  StateDict state;
};

class Training : public testing::Test {
 protected:
  Training() {
    options_.stage = "stage";
    options_.epochs = 4;
    options_.batch_size = 32;
    options_.seed = 11;
    options_.optimizer = make_optimizer(
        {{"learning_rate", 0.05}, {"momentum", 0.9}, {"nesterov", true}, {"weight_decay", 1e-3}});
    options_.schedule = make_schedule({{"kind", "cosine"}, {"warmup_epochs", 1}});
  }

  Trained run(const comm::Comm& comm) {
    const auto objective = nn::make_cross_entropy();
    Trained trained{{}, nn::initial_state(spec_, 3)};
    TrainTask task{spec_,
                   *objective,
                   made_up_dataset(comm, 150, spec_.input, 4),
                   made_up_dataset(comm, 90, spec_.input, 4),
                   on_event_,
                   &stop_,
                   directory_,
                   "key"};
    trained.result = train(comm, options_, task, trained.state);
    return trained;
  }

  /// A directory that all ranks of `world_` know, empty at first.
  void use_directory(const std::string& name) {
    directory_ = std::filesystem::temp_directory_path() /
                 ("impart_trainer_test_" + name + "_" + std::to_string(world_.size()));
    if (world_.is_root()) std::filesystem::remove_all(directory_);
    world_.barrier();
  }
  void TearDown() override {
    world_.barrier();
    if (world_.is_root() && !directory_.empty()) std::filesystem::remove_all(directory_);
  }

  /// However often it is stopped, and on any number of ranks, a run gives the same bits.
  void expect_continues();

  comm::Comm world_ = comm::Comm::world();
  nn::ModelSpec spec_ = small_net();
  TrainerOptions options_;
  std::function<void(const TrainEvent&)> on_event_;
  std::atomic<bool> stop_{false};
  std::filesystem::path directory_;
};

void expect_equal(const StateDict& a, const StateDict& b) {
  EXPECT_TRUE(std::equal(a.arena().begin(), a.arena().end(), b.arena().begin(), b.arena().end()));
}

TEST_F(Training, LearnsAndGivesTheSameBitsOnAnyNumberOfRanks) {
  const auto alone = run(comm::Comm::self());
  EXPECT_GT(alone.result.metrics.at("validation.accuracy"), 0.9);
  EXPECT_EQ(alone.result.samples, 600);
  EXPECT_EQ(alone.result.steps, 20);
  options_.threads = 2;
  const auto together = run(world_);
  expect_equal(alone.state, together.state);
  EXPECT_EQ(alone.result.metrics, together.result.metrics);
}

TEST_F(Training, AnySamplerGivesTheSameBitsOnAnyNumberOfRanks) {
  options_.batch_size = 16;
  options_.augment = {data::make_augmentation({{"kind", "noise"}})};
  for (const auto kind : data::samplers().names()) {
    options_.sampler = data::make_sampler(kind);
    options_.threads = 1;
    const auto alone = run(comm::Comm::self());
    EXPECT_GT(alone.result.metrics.at("validation.accuracy"), 0.9) << kind;
    options_.threads = 2;
    const auto together = run(world_);
    expect_equal(alone.state, together.state);
    EXPECT_EQ(alone.result.metrics, together.result.metrics) << kind;
  }
}

/// A Poisson sampler that expects two samples often draws none.
TEST_F(Training, EmptyBatchesAreSteps) {
  options_.batch_size = 2;
  options_.shards = 2;
  options_.optimizer = make_optimizer(
      {{"learning_rate", 0.01}, {"momentum", 0.9}, {"nesterov", true}, {"weight_decay", 1e-3}});
  if (world_.size() > 2) return;
  options_.sampler = data::make_sampler("poisson");
  data::BatchLoader loader(made_up_dataset(world_, 150, spec_.input, 4),
                           {2, 2, {0, 2}, 11, options_.sampler});
  bool has_none = false;
  for (int step = 0; step < 75; ++step) has_none |= loader.next().global_size == 0;
  EXPECT_TRUE(has_none);
  for (const int together : {1, 2}) {
    for (const bool local : {false, true}) {
      options_.accumulate = local ? 1 : together;
      options_.local_steps = local ? together : 1;
      const auto alone = run(comm::Comm::self());
      expect_equal(alone.state, run(world_).state);
      EXPECT_TRUE(std::isfinite(alone.result.metrics.at("train.loss")));
      for (const float value : alone.state.arena()) ASSERT_TRUE(std::isfinite(value));
    }
  }
}

/// Their statistics are those of the whole batch only when all its shards are full.
TEST_F(Training, RefusesSyncedStatisticsOfBatchesOfAnySize) {
  spec_ = small_net(4, true);
  options_.sampler = data::make_sampler("poisson");
  EXPECT_THROW(run(world_), Error);
  options_.sampler = data::make_sampler("balanced");
  EXPECT_NO_THROW(run(world_));
}

TEST_F(Training, AugmentedGivesTheSameBitsOnAnyNumberOfRanks) {
  const auto plain = run(comm::Comm::self());
  options_.augment = {data::make_augmentation({{"kind", "noise"}}),
                      data::make_augmentation({{"kind", "mixup"}})};
  const auto alone = run(comm::Comm::self());
  EXPECT_GT(alone.result.metrics.at("validation.accuracy"), 0.9);
  EXPECT_NE(plain.result.metrics.at("train.loss"), alone.result.metrics.at("train.loss"));
  options_.threads = 2;
  expect_equal(alone.state, run(world_).state);
}

TEST_F(Training, AMeshThatTheRanksDoNotFillIsRefusedOnAllOfThem) {
  const auto expect_refused = [&](const comm::MeshShape& mesh, const std::string& why) {
    options_.mesh = mesh;
    try {
      run(world_);
      FAIL() << "trained although " << why;
    } catch (const Error& e) {
      EXPECT_TRUE(e.is_collective());
      EXPECT_NE(std::string(e.what()).find(why), std::string::npos) << e.what();
    }
  };
  expect_refused({.data = world_.size() + 1}, "the mesh");
  expect_refused({.tensor = 3 * world_.size()}, "does not divide");
}

TEST_F(Training, StoppedAndContinuedEqualsUninterrupted) {
  options_.keep = Keep::kBest;
  options_.augment = {data::make_augmentation({{"kind", "noise"}}),
                      data::make_augmentation({{"kind", "mixup"}, {"alpha", 1}})};
  expect_continues();
}

/// What else a state must hold, or what must follow from the step: averages, sums of gradients, the plateau.
TEST_F(Training, AveragesUpdatesOfSeveralBatchesAndPlateausContinueToo) {
  const auto plain = options_;
  options_.optimizer = make_optimizer({{"kind", "rmsprop"}, {"momentum", 0.5}});
  options_.transforms = {make_proximal(0.1), make_clip_norm(1)};
  options_.average = make_average({{"kind", "ema"}, {"decay", 0.9}});
  options_.accumulate = 2;  // five batches an epoch: the last update of each has one
  expect_continues();

  options_ = plain;
  options_.optimizer = make_optimizer({{"kind", "lamb"}});
  options_.average = make_average({{"kind", "swa"}, {"start", 0.25}, {"learning_rate", 0.02}});
  options_.accumulate = 3;
  expect_continues();

  options_ = plain;
  options_.optimizer = make_optimizer({{"kind", "lars"}});
  options_.schedule =
      make_schedule({{"kind", "plateau"}, {"factor", 0.5}, {"patience", 0}, {"threshold", 0.5}});
  options_.monitor = "loss";
  expect_continues();
}

/// It stops where the workers have been averaged: three steps after a start, or two at the end of an epoch.
TEST_F(Training, LocalStepsContinueToo) {
  options_.local_steps = 3;
  options_.keep = Keep::kBest;
  expect_continues();

  options_.keep = Keep::kLast;
  options_.optimizer = make_optimizer({{"kind", "adamw"}});
  options_.average = make_average({{"kind", "ema"}, {"decay", 0.9}});
  expect_continues();
}

TEST_F(Training, AMeanOfWeightsIsThatOfTheEpochsEnds) {
  options_.schedule = make_schedule();
  std::vector<StateDict> ends;
  for (const int epochs : {3, 4}) {
    options_.epochs = epochs;
    ends.push_back(run(world_).state);
  }
  options_.average = make_average({{"kind", "swa"}, {"start", 0.5}});
  const auto averaged = run(world_);
  for (std::size_t i = 0; i < averaged.state.parameters().size(); ++i) {
    ASSERT_NEAR(averaged.state.parameters()[i], (ends[0].parameters()[i] + ends[1].parameters()[i]) / 2,
                1e-6);
  }
  // One validation more than epochs: that of what is kept.
  EXPECT_EQ(averaged.result.history.at("validation.accuracy").size(), 5U);
  EXPECT_GT(averaged.result.metrics.at("validation.accuracy"), 0.9);
  options_.keep = Keep::kBest;
  EXPECT_THROW(run(world_), Error);
}

/// Without what depends on the cut of a batch, two batches of 16 are one of 32. The tail of 22 samples is a
/// batch in one run, and a batch and its tail in the other.
TEST_F(Training, AnUpdateOfTwoBatchesIsThatOfOneTwiceAsLarge) {
  std::erase_if(spec_.layers,
                [](const auto& layer) { return layer.kind == "batch_norm" || layer.kind == "dropout"; });
  const auto once = run(world_);
  options_.batch_size = 16;
  options_.accumulate = 2;
  const auto twice = run(world_);
  for (std::size_t i = 0; i < once.state.parameters().size(); ++i) {
    ASSERT_NEAR(once.state.parameters()[i], twice.state.parameters()[i], 1e-4);
  }
}

void Training::expect_continues() {
  const auto whole = run(world_);
  expect_equal(whole.state, run(comm::Comm::self()).state);
  for (const bool at_once : {true, false}) {  // in the first epoch, and in the second
    use_directory("stop");
    stop_ = at_once;
    on_event_ = [&](const TrainEvent&) { stop_ = true; };
    const auto first = run(world_);
    EXPECT_EQ(first.result.end, TrainEnd::kStopped);
    EXPECT_LT(first.result.steps, whole.result.steps);
    stop_ = false;
    on_event_ = nullptr;
    const auto second = run(world_);
    EXPECT_EQ(second.result.end, TrainEnd::kFinished);
    expect_equal(whole.state, second.state);
    EXPECT_EQ(whole.result.metrics, second.result.metrics);
    EXPECT_EQ(whole.result.history.at("train.loss").size(), second.result.history.at("train.loss").size());
    world_.barrier();
  }
  directory_.clear();
}

TEST_F(Training, SavedStateOfAnotherRunIsNotContinued) {
  use_directory("other");
  stop_ = true;
  run(world_);
  stop_ = false;
  const auto objective = nn::make_cross_entropy();
  auto state = nn::initial_state(spec_, 3);
  TrainTask task{spec_,      *objective,   made_up_dataset(world_, 150, spec_.input, 4), nullptr, {}, nullptr,
                 directory_, "another key"};
  EXPECT_EQ(train(world_, options_, task, state).history.at("train.loss").size(), 4U);
  expect_equal(state, run(comm::Comm::self()).state);
}

TEST_F(Training, KeepsTheBestAndStopsEarly) {
  options_.epochs = 60;
  options_.keep = Keep::kBest;
  options_.patience = 2;
  options_.schedule = make_schedule();
  const auto trained = run(world_);
  EXPECT_EQ(trained.result.end, TrainEnd::kEarly);
  EXPECT_LT(trained.result.epochs, 60);
  double best = 0;
  double kept = 0;
  for (const auto& point : trained.result.history.at("validation.accuracy")) {
    best = std::max(best, point.value);
    if (point.step == trained.result.kept_step) kept = point.value;
  }
  EXPECT_EQ(kept, best);
  EXPECT_EQ(trained.result.metrics.at("validation.accuracy"), best);
}

TEST_F(Training, FrozenParametersStayAsTheyAre) {
  options_.groups = {{"conv1.*", 1.0, true}, {"bn1.*", 1.0, true}};
  const auto before = nn::initial_state(spec_, 3);
  const auto trained = run(world_);
  for (const auto& entry : before.layout().entries()) {
    const auto a = before.values(entry);
    const auto b = trained.state.values(entry);
    const bool frozen = matches("conv1.*", entry.name) || matches("bn1.*", entry.name);
    EXPECT_EQ(std::equal(a.begin(), a.end(), b.begin()), frozen) << entry.name;
  }
}

TEST_F(Training, LossThatIsNotFiniteNamesStageStepAndLayer) {
  options_.optimizer = make_optimizer({{"learning_rate", 1e30}});
  options_.schedule = make_schedule();
  for (const bool sync : {false, true}) {  // with whose statistics the ranks look for the layer together
    spec_ = small_net(4, sync);
    try {
      run(world_);
      FAIL() << "training with a rate of 1e30 went on";
    } catch (const Error& e) {
      const std::string line = e.what();
      EXPECT_TRUE(e.is_collective());
      EXPECT_NE(line.find("stage: the loss is"), std::string::npos) << line;
      EXPECT_NE(line.find("at step "), std::string::npos) << line;
      EXPECT_NE(line.find("in layer '"), std::string::npos) << line;
    }
  }
}

TEST_F(Training, BestNeedsValidationData) {
  options_.keep = Keep::kBest;
  const auto objective = nn::make_cross_entropy();
  auto state = nn::initial_state(spec_, 3);
  TrainTask task{spec_, *objective, made_up_dataset(world_, 50, spec_.input, 4), nullptr, {}, nullptr,
                 {},    ""};
  EXPECT_THROW(train(world_, options_, task, state), Error);
}

TEST_F(Training, UnwritableStateDirectoryFailsEverywhere) {
  directory_ = "/proc/no such directory";
  EXPECT_THROW(run(world_), Error);
  directory_.clear();
}

}  // namespace
}  // namespace impart::train

// Training on a mesh with a tensor axis, against training on one rank. Needs an even number of ranks.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <string>

#include "impart/comm/mesh.hpp"
#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/zoo.hpp"
#include "impart/train/trainer.hpp"
#include "memory_source.hpp"

namespace impart::train {
namespace {

std::int64_t whole(int value) { return value; }

/// Convolutions, batch norm, dropout, dense layers; 4 classes.
nn::ModelSpec small_cnn() {
  nn::ModelSpec spec{"small", Shape{1, 8, 8}, 4, {}};
  spec.layers = {
      {"conv2d", "", {{"filters", whole(8)}, {"kernel", whole(3)}, {"padding", whole(1)}}},
      {"batch_norm", "", {}},
      {"relu", "", {}},
      {"max_pool2d", "", {{"kernel", whole(2)}}},
      {"conv2d", "", {{"filters", whole(16)}, {"kernel", whole(3)}}},
      {"relu", "", {}},
      {"flatten", "", {}},
      {"dense", "", {{"units", whole(16)}}},
      {"relu", "", {}},
      {"dropout", "", {{"rate", 0.25}}},
      {"dense", "", {{"units", whole(4)}}},
  };
  nn::name_layers(spec);
  return spec;
}

struct Trained {
  TrainResult result;
  StateDict state;
};

class OnAMesh : public testing::Test {
 protected:
  OnAMesh() {
    options_.stage = "stage";
    options_.epochs = 20;
    options_.batch_size = 32;
    options_.seed = 11;
    options_.optimizer = make_optimizer({{"learning_rate", 0.02}, {"momentum", 0.9}});
  }

  /// An epoch is one step, so that the loss of each is recorded.
  Trained run(const comm::Comm& comm, const comm::MeshShape& mesh) {
    const auto objective = nn::make_objective(objective_);
    const bool words = spec_.layers.front().kind == "embedding";
    const auto data = [&](std::int64_t n) {
      return words ? testing_support::made_up_sequences(comm, n, spec_.input[0], spec_.classes)
                   : testing_support::made_up_dataset(comm, n, spec_.input, spec_.classes);
    };
    Trained trained{{}, nn::initial_state(spec_, 3)};
    TrainTask task{spec_,     *objective, data(32),   validates_ ? data(70) : nullptr,
                   on_event_, &stop_,     directory_, "key"};
    options_.mesh = mesh;
    trained.result = train(comm, options_, task, trained.state);
    return trained;
  }

  /// The loss of each step against that on one rank. Other orders of sums round differently, which grows with the
  /// steps; how much depends on oneDNN's version, too.
  void expect_same_losses(const Trained& alone, const Trained& together, double tolerance = 3e-5) {
    const auto& expected = alone.result.history.at("train.loss");
    const auto& got = together.result.history.at("train.loss");
    ASSERT_EQ(expected.size(), got.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(expected[i].step, got[i].step);
      EXPECT_NEAR(got[i].value / expected[i].value, 1, tolerance) << "step " << expected[i].step;
    }
  }

  /// On every mesh that the ranks allow.
  void expect_losses_of_one_rank() {
    const auto alone = run(comm::Comm::self(), {});
    EXPECT_LT(alone.result.metrics.at("train.loss"), alone.result.history.at("train.loss")[0].value);
    int meshes = 0;
    for (const int tensor : {2, 4}) {
      if (world_.size() % tensor != 0) continue;
      SCOPED_TRACE("tensor " + std::to_string(tensor));
      const auto together = run(world_, {.tensor = tensor});
      expect_same_losses(alone, together);
      ++meshes;
    }
    EXPECT_EQ(meshes, world_.size() == 2 ? 1 : 2);
  }

  void use_directory(const std::string& name) {
    directory_ = std::filesystem::temp_directory_path() /
                 ("impart_mesh_test_" + name + "_" + std::to_string(world_.size()));
    if (world_.is_root()) std::filesystem::remove_all(directory_);
    world_.barrier();
  }
  void TearDown() override {
    world_.barrier();
    if (world_.is_root() && !directory_.empty()) std::filesystem::remove_all(directory_);
  }

  static void expect_equal(const StateDict& a, const StateDict& b) {
    EXPECT_TRUE(std::equal(a.arena().begin(), a.arena().end(), b.arena().begin(), b.arena().end()));
  }

  comm::Comm world_ = comm::Comm::world();
  nn::ModelSpec spec_ = small_cnn();
  TrainerOptions options_;
  SettingTable objective_;  // cross entropy, when it is empty
  bool validates_ = false;
  std::function<void(const TrainEvent&)> on_event_;
  std::atomic<bool> stop_{false};
  std::filesystem::path directory_;
};

TEST_F(OnAMesh, ACnnHasTheLossesOfOneRank) {
  expect_losses_of_one_rank();
  // What needs the lengths of whole tensors.
  options_.optimizer = make_optimizer({{"kind", "lamb"}});
  options_.transforms = {make_clip_norm(0.5)};
  options_.l2 = 0.01;
  expect_losses_of_one_rank();
  options_.optimizer = make_optimizer({{"kind", "lars"}, {"learning_rate", 1}});
  options_.groups = {{"conv1.*", 1.0, true}};
  expect_losses_of_one_rank();
}

TEST_F(OnAMesh, AResidualNetworkHasTheLossesOfOneRank) {
  spec_ = nn::zoo_model("resnet18", {}, 4, {{"stem", std::string("cifar")}, {"width", 0.125}});
  // Batch statistics over few values, and large steps, would magnify the last bits of sums in another order.
  options_.optimizer = make_optimizer({{"learning_rate", 0.001}});
  options_.shards = 4;
  expect_losses_of_one_rank();
}

TEST_F(OnAMesh, ATransformerHasTheLossesOfOneRank) {
  spec_ =
      nn::zoo_model("transformer", {}, 12,
                    {{"layers", whole(2)}, {"width", whole(16)}, {"context", whole(6)}, {"dropout", 0.1}});
  options_.optimizer = make_optimizer({{"kind", "adamw"}});
  expect_losses_of_one_rank();
}

/// Of more classes than are gathered, with a bit of all that a cross entropy can have.
TEST_F(OnAMesh, ACrossEntropyOfSplitClassesIsThatOfWholeRows) {
  spec_ = nn::zoo_model("mlp", {12}, 600, {{"hidden", std::vector<std::int64_t>{16, 16}}});
  expect_losses_of_one_rank();
  std::vector<double> weights(600);
  for (std::size_t k = 0; k < 600; ++k) weights[k] = 0.5 + static_cast<double>(k % 7);
  objective_ = {{"label_smoothing", 0.1}, {"class_weights", weights}};
  options_.augment = {data::make_augmentation({{"kind", "mixup"}, {"alpha", 0.4}})};
  expect_losses_of_one_rank();
}

TEST_F(OnAMesh, TheDataAxisKeepsItsBits) {
  validates_ = true;
  options_.epochs = 6;
  options_.average = make_average({{"kind", "swa"}, {"start", 0.5}});  // which ends with a recalibration
  const auto pair = world_.split(world_.rank() / 2, world_.rank());
  const auto once = run(pair, {.data = 1, .tensor = 2});
  const auto often = run(world_, {.tensor = 2});
  expect_equal(once.state, often.state);
  EXPECT_EQ(once.result.metrics, often.result.metrics);
  EXPECT_GT(often.result.seconds.communication, 0);
}

/// Batch norm over the data axis, of channels that are split over the tensor axis.
TEST_F(OnAMesh, BatchNormOverRanksIsThatOfTheWholeBatch) {
  spec_.layers[1].settings = {{"sync", true}};
  for (const auto overlap : {comm::Overlap::kPolling, comm::Overlap::kThread}) {
    options_.overlap = overlap;
    expect_losses_of_one_rank();
  }
  const auto pair = world_.split(world_.rank() / 2, world_.rank());
  expect_equal(run(pair, {.tensor = 2}).state, run(world_, {.tensor = 2}).state);
}

TEST_F(OnAMesh, AStateOfOneMeshContinuesOnAnother) {
  validates_ = true;
  options_.keep = Keep::kBest;
  options_.optimizer = make_optimizer({{"kind", "adam"}});
  options_.average = make_average({{"kind", "ema"}, {"decay", 0.9}});
  const auto alone = run(comm::Comm::self(), {});
  const comm::MeshShape split{.tensor = 2};
  for (const auto& next : {comm::MeshShape{}, split}) {
    use_directory("continue");
    std::int64_t epochs = 0;
    on_event_ = [&](const TrainEvent& event) {
      if (event.name == "train.loss" && ++epochs == 7)
        stop_ = world_.rank() == world_.size() - 1;  // one rank alone
    };
    const auto first = run(world_, split);
    EXPECT_EQ(first.result.end, TrainEnd::kStopped);
    stop_ = false;
    on_event_ = nullptr;
    world_.barrier();
    const auto saved = io::read_newest(directory_);
    ASSERT_TRUE(saved);
    EXPECT_EQ(saved->second.lineage.mesh,
              comm::describe({.data = world_.size() / 2, .pipeline = 1, .tensor = 2}));
    EXPECT_FALSE(saved->second.state.layout().difference(*nn::state_layout(spec_)));
    expect_equal(first.state, saved->second.state);
    world_.barrier();
    const auto second = run(world_, next);
    EXPECT_EQ(second.result.end, TrainEnd::kFinished);
    expect_same_losses(alone, second);
    EXPECT_EQ(alone.result.kept_step, second.result.kept_step);
  }
}

/// A state that many ranks wrote is read by one.
TEST_F(OnAMesh, OneRankContinuesWhatAMeshHasBegun) {
  const auto alone = run(comm::Comm::self(), {});
  use_directory("one");
  stop_ = true;
  run(world_, {.tensor = 2});
  stop_ = false;
  if (world_.is_root()) {
    const auto rest = run(comm::Comm::self(), {});
    expect_same_losses(alone, rest);
    EXPECT_EQ(io::read_newest(directory_)->second.lineage.mesh, "data=1");
  }
  world_.barrier();
}

TEST_F(OnAMesh, ALossThatIsNotFiniteEndsAllRanks) {
  options_.optimizer = make_optimizer({{"learning_rate", 1e30}});
  try {
    run(world_, {.tensor = 2});
    FAIL() << "training with a rate of 1e30 went on";
  } catch (const Error& e) {
    EXPECT_TRUE(e.is_collective());
    EXPECT_NE(std::string(e.what()).find("in layer '"), std::string::npos) << e.what();
  }
}

TEST_F(OnAMesh, WhatDoesNotFitIsRefusedOnAllRanks) {
  const auto expect_refused = [&](const comm::MeshShape& mesh, const std::string& why) {
    try {
      run(world_, mesh);
      FAIL() << "trained although " << why;
    } catch (const Error& e) {
      EXPECT_TRUE(e.is_collective());
      EXPECT_NE(std::string(e.what()).find(why), std::string::npos) << e.what();
    }
  };
  spec_.layers.back().settings = {{"units", whole(4)}};
  spec_.layers.front().settings = {{"filters", whole(7)}, {"kernel", whole(3)}};
  expect_refused({.tensor = world_.size()},
                 "layer 'conv1' (conv2d): the tensor axis does not divide the channels");
  spec_ = small_cnn();
  options_.solver = make_solver({{"kind", "lbfgs"}});
  expect_refused({.tensor = world_.size()}, "a solver needs the whole model");
}

}  // namespace
}  // namespace impart::train

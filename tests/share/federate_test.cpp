#include "impart/share/federate.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"
#include "impart/data/partition.hpp"
#include "impart/nn/network.hpp"
#include "impart/share/combine.hpp"
#include "memory_source.hpp"
#include "train/small_net.hpp"

namespace impart::share {
namespace {

using testing_support::made_up_dataset;
using testing_support::small_net;

class Federating : public testing::Test {
 protected:
  Federating() {
    options_.stage = "federation";
    options_.rounds = 4;
    options_.seed = 21;
    options_.local.epochs = 2;
    options_.local.batch_size = 16;
    options_.local.optimizer = {.learning_rate = 0.05, .momentum = 0.9};
  }

  struct Outcome {
    train::TrainResult result;
    StateDict state;
  };

  Outcome run(const comm::Comm& comm) {
    const auto objective = nn::make_cross_entropy();
    const auto all = made_up_dataset(comm, 300, spec_.input, 4);
    std::vector<data::DatasetPtr> clients;
    for (auto& part : data::partition_dirichlet(*all, 6, 0.5, 5, 1))
      clients.push_back(data::subset(all, std::move(part)));
    Outcome outcome{{}, nn::initial_state(spec_, 3)};
    const FederateTask task{spec_,     *objective, clients,    made_up_dataset(comm, 80, spec_.input, 4),
                            on_event_, &stop_,     directory_, "key"};
    outcome.result = federate(comm, options_, task, outcome.state);
    return outcome;
  }

  comm::Comm world_ = comm::Comm::world();
  nn::ModelSpec spec_ = small_net();
  FederateOptions options_;
  std::function<void(const train::TrainEvent&)> on_event_;
  std::atomic<bool> stop_{false};
  std::filesystem::path directory_;
};

void expect_equal(const StateDict& a, const StateDict& b) {
  EXPECT_TRUE(std::equal(a.arena().begin(), a.arena().end(), b.arena().begin()));
}

TEST_F(Federating, LearnsAndGivesTheSameBitsOnAnyNumberOfRanks) {
  const auto alone = run(comm::Comm::self());
  EXPECT_GT(alone.result.metrics.at("validation.accuracy"), 0.85);
  options_.threads = 2;
  const auto together = run(world_);
  expect_equal(alone.state, together.state);
  EXPECT_EQ(alone.result.metrics, together.result.metrics);
}

/// One round by hand: each client trained by the Trainer, then the weighted mean of the combiners.
TEST_F(Federating, ARoundIsTheWeightedMeanOfTheClients) {
  options_.rounds = 1;
  const auto self = comm::Comm::self();
  const auto federated = run(self);
  const auto all = made_up_dataset(self, 300, spec_.input, 4);
  const auto objective = nn::make_cross_entropy();
  std::vector<StateDict> models;
  std::vector<double> weights;
  int client = 0;
  for (auto& part : data::partition_dirichlet(*all, 6, 0.5, 5, 1)) {
    weights.push_back(static_cast<double>(part.size()));
    auto options = options_.local;
    options.shards = 1;
    options.batch_size = std::min<std::int64_t>(16, static_cast<std::int64_t>(part.size()));
    options.seed = Rng(options_.seed, "client", static_cast<std::uint64_t>(client++), 0).next64();
    auto state = nn::initial_state(spec_, 3);
    train::train(self, options, {spec_, *objective, data::subset(all, part), nullptr, {}, nullptr, {}, {}},
                 state);
    models.push_back(std::move(state));
  }
  std::vector<const StateDict*> pointers;
  for (const auto& model : models) pointers.push_back(&model);
  const auto mean = weighted(pointers, weights);
  for (std::size_t i = 0; i < mean.arena().size(); ++i) {
    ASSERT_NEAR(mean.arena()[i], federated.state.arena()[i], 1e-6) << i;
  }
}

TEST_F(Federating, StoppedAndContinuedEqualsUninterrupted) {
  const auto whole = run(world_);
  directory_ =
      std::filesystem::temp_directory_path() / ("impart_federate_test_" + std::to_string(world_.size()));
  if (world_.is_root()) std::filesystem::remove_all(directory_);
  world_.barrier();
  on_event_ = [&](const train::TrainEvent& e) { stop_ = e.step >= 2; };
  const auto first = run(world_);
  EXPECT_EQ(first.result.end, train::TrainEnd::kStopped);
  EXPECT_EQ(first.result.steps, 2);
  stop_ = false;
  on_event_ = nullptr;
  const auto second = run(world_);
  EXPECT_EQ(second.result.end, train::TrainEnd::kFinished);
  expect_equal(whole.state, second.state);
  EXPECT_EQ(whole.result.history.at("train.loss").size(), second.result.history.at("train.loss").size());
  world_.barrier();
  if (world_.is_root()) std::filesystem::remove_all(directory_);
}

TEST_F(Federating, AClientThatFailsFailsTheStageOnEveryRank) {
  options_.local.optimizer.learning_rate = 1e30;
  try {
    run(world_);
    FAIL() << "clients that diverge were averaged";
  } catch (const Error& e) {
    EXPECT_TRUE(e.is_collective());
    EXPECT_NE(std::string(e.what()).find("federation: round 1: client "), std::string::npos) << e.what();
  }
}

TEST(SelectClients, TakesTheFractionAndChangesByRound) {
  EXPECT_EQ(select_clients(10, 1.0, 1, 0).size(), 10U);
  EXPECT_EQ(select_clients(10, 0.25, 1, 0).size(), 3U);
  EXPECT_EQ(select_clients(10, 0.01, 1, 0).size(), 1U);
  EXPECT_NE(select_clients(100, 0.1, 1, 0), select_clients(100, 0.1, 1, 1));
  EXPECT_EQ(select_clients(100, 0.1, 1, 4), select_clients(100, 0.1, 1, 4));
  const auto chosen = select_clients(100, 0.5, 1, 2);
  EXPECT_TRUE(std::is_sorted(chosen.begin(), chosen.end()));
  EXPECT_EQ(std::adjacent_find(chosen.begin(), chosen.end()), chosen.end());
}

}  // namespace
}  // namespace impart::share

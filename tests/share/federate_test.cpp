#include "impart/share/federate/federate.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <thread>

#include "counting_dataset.hpp"
#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"
#include "impart/data/partition.hpp"
#include "impart/nn/network.hpp"
#include "memory_source.hpp"
#include "share/combine_support.hpp"
#include "train/small_net.hpp"

namespace impart::share {
namespace {

using testing_support::made_up_dataset;
using testing_support::small_net;

std::unique_ptr<FederatedAlgorithm> make_algorithm(std::string_view kind, const SettingTable& settings = {}) {
  return read_settings(settings, "test",
                       [&](Settings& reader) { return federated_algorithms().make(reader, kind); });
}

class Federating : public testing::Test {
 protected:
  Federating() {
    options_.stage = "federation";
    options_.rounds = 4;
    options_.seed = 21;
    options_.local.epochs = 2;
    options_.local.batch_size = 16;
    options_.local.optimizer = train::make_optimizer({{"learning_rate", 0.05}, {"momentum", 0.9}});
  }

  struct Outcome {
    train::TrainResult result;
    StateDict state;
  };

  std::vector<data::DatasetPtr> clients_of(const data::DatasetPtr& all) const {
    std::vector<data::DatasetPtr> clients;
    for (auto& part : data::partition_dirichlet(*all, client_count_, 0.5, 5, 1))
      clients.push_back(data::subset(all, std::move(part)));
    return clients;
  }

  Outcome run(const comm::Comm& comm) {
    return run(comm, clients_of(made_up_dataset(comm, 300, spec_.input, 4)));
  }

  Outcome run(const comm::Comm& comm, const std::vector<data::DatasetPtr>& clients) {
    const auto objective = nn::make_cross_entropy();
    Outcome outcome{{}, nn::initial_state(spec_, 3)};
    const FederateTask task{spec_,     *objective, clients,    made_up_dataset(comm, 80, spec_.input, 4),
                            on_event_, &stop_,     directory_, "key"};
    outcome.result = run(comm, task, outcome.state);
    return outcome;
  }

  virtual train::TrainResult run(const comm::Comm& comm, const FederateTask& task, StateDict& state) {
    return federate(comm, *algorithm_, options_, task, state);
  }

  void use_directory() {
    directory_ =
        std::filesystem::temp_directory_path() / ("impart_federate_test_" + std::to_string(world_.size()));
    if (world_.is_root()) std::filesystem::remove_all(directory_);
    world_.barrier();
  }
  void TearDown() override {
    world_.barrier();
    if (world_.is_root() && !directory_.empty()) std::filesystem::remove_all(directory_);
  }

  comm::Comm world_ = comm::Comm::world();
  nn::ModelSpec spec_ = small_net();
  int client_count_ = 6;
  FederateOptions options_;
  std::unique_ptr<FederatedAlgorithm> algorithm_ = make_algorithm("fedavg");
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

/// One round by hand: each client trained by the Trainer, then the linear combiner, in the order in which the
/// one slot of the reduction has them: by size.
TEST_F(Federating, ARoundIsTheWeightedMeanOfTheClients) {
  options_.rounds = 1;
  options_.shards = 1;
  const auto self = comm::Comm::self();
  const auto federated = run(self);
  const auto clients = clients_of(made_up_dataset(self, 300, spec_.input, 4));
  std::vector<std::size_t> order(clients.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::stable_sort(order, std::ranges::greater(), [&](std::size_t i) { return clients[i]->size(); });
  const auto objective = nn::make_cross_entropy();
  std::vector<StateDict> models;
  std::vector<double> weights;
  for (const auto client : order) {
    weights.push_back(static_cast<double>(clients[client]->size()));
    auto options = options_.local;
    options.shards = 1;
    options.batch_size = std::min<std::int64_t>(16, clients[client]->size());
    options.seed = Rng(options_.seed, "client", client, 0).next64();
    auto state = nn::initial_state(spec_, 3);
    train::train(self, options, {spec_, *objective, clients[client], nullptr, {}, nullptr, {}, {}}, state);
    models.push_back(std::move(state));
  }
  std::vector<const StateDict*> pointers;
  for (const auto& model : models) pointers.push_back(&model);
  expect_equal(federated.state,
               combine(*testing_support::make_combiner("linear", {{"weight", weights}}), pointers));
}

TEST_F(Federating, StoppedAndContinuedEqualsUninterrupted) {
  const auto whole = run(world_);
  use_directory();
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
}

TEST_F(Federating, AClientThatFailsFailsTheStageOnEveryRank) {
  options_.local.optimizer = train::make_optimizer({{"learning_rate", 1e30}});
  try {
    run(world_);
    FAIL() << "clients that diverge were averaged";
  } catch (const Error& e) {
    EXPECT_TRUE(e.is_collective());
    EXPECT_NE(std::string(e.what()).find("federation: round 1: client "), std::string::npos) << e.what();
  }
}

/// With batch norm, dropout, several steps a round, threads, and clients that sit out some rounds.
TEST_F(Federating, ScaffoldGivesTheSameBitsOnAnyNumberOfRanksStoppedOrNot) {
  algorithm_ = make_algorithm("scaffold");
  options_.fraction_fit = 0.5;
  options_.local.optimizer = train::make_optimizer({{"learning_rate", 0.1}});
  const auto alone = run(comm::Comm::self());
  EXPECT_GT(alone.result.metrics.at("validation.accuracy"), 0.7);
  options_.threads = 2;
  expect_equal(alone.state, run(world_).state);
  use_directory();
  on_event_ = [&](const train::TrainEvent& e) { stop_ = e.step >= 3; };
  EXPECT_EQ(run(world_).result.steps, 3);
  stop_ = false;
  on_event_ = nullptr;
  const bool goes_on = world_.rank() < std::max(1, world_.size() / 2);
  const auto half = world_.split(goes_on ? 0 : 1, world_.rank());
  if (goes_on) expect_equal(alone.state, run(half).state);
}

TEST_F(Federating, WhatAnAlgorithmCannotTakeIsRefused) {
  const auto refuses = [&](std::string_view kind) {
    auto all = train::capabilities_of(options_.local);
    all.push_back(make_algorithm(kind)->capabilities());
    return !train::conflicts(all).empty();
  };
  EXPECT_FALSE(refuses("fedavg"));
  EXPECT_FALSE(refuses("fedprox"));
  EXPECT_TRUE(refuses("scaffold")) << "momentum";
  algorithm_ = make_algorithm("scaffold");
  EXPECT_THROW(run(world_), Error);
  options_.local.optimizer = train::make_optimizer({{"learning_rate", 0.1}});
  EXPECT_FALSE(refuses("scaffold"));
  options_.local.local_steps = 2;
  EXPECT_TRUE(refuses("scaffold"));
  options_.local.local_steps = 1;
  options_.local.solver = train::make_solver({{"kind", "lbfgs"}});
  EXPECT_TRUE(refuses("scaffold"));
  EXPECT_TRUE(refuses("fedprox"));
}

TEST(FederatedAlgorithms, DoWithDefaultsAloneAndDocumentThemselves) {
  for (const auto& kind : federated_algorithms().document()) {
    EXPECT_NE(make_algorithm(kind.name), nullptr) << kind.name;
    EXPECT_FALSE(kind.text.empty());
  }
}

/// Cyclical weight transfer.
class Cyclic : public Federating {
 protected:
  train::TrainResult run(const comm::Comm& comm, const FederateTask& task, StateDict& state) override {
    return cyclic_transfer(comm, options_, task, state);
  }
  using Federating::run;
};

TEST_F(Cyclic, LearnsAndGivesTheSameBitsOnAnyNumberOfRanks) {
  options_.local.schedule = train::make_schedule({{"kind", "cosine"}, {"warmup_epochs", 1}});
  for (const int clients : {6, 3, 1}) {  // that the ranks do not divide, and fewer than ranks
    client_count_ = clients;
    const auto alone = run(comm::Comm::self());
    EXPECT_GT(alone.result.metrics.at("validation.accuracy"), 0.85) << clients << " clients";
    EXPECT_EQ(alone.result.steps, 4 * clients);
    EXPECT_EQ(alone.result.epochs, 4);
    EXPECT_EQ(alone.result.samples, 4 * 2 * 300);
    options_.threads = 2;
    const auto together = run(world_);
    expect_equal(alone.state, together.state);
    EXPECT_EQ(alone.result.metrics, together.result.metrics);
    options_.threads = 1;
  }
}

/// Two rounds by hand: one Trainer after another on the same weights, a new optimizer for each, and a
/// learning rate that falls over all of them.
TEST_F(Cyclic, IsOneTrainingAfterAnother) {
  options_.rounds = 2;
  options_.local.schedule = train::make_schedule({{"kind", "step"}, {"step_epochs", 3}, {"gamma", 0.5}});
  const auto visited = run(world_);
  const auto clients = clients_of(made_up_dataset(world_, 300, spec_.input, 4));
  const auto objective = nn::make_cross_entropy();
  const auto self = comm::Comm::self();
  auto state = nn::initial_state(spec_, 3);
  for (int round = 0; round < 2; ++round) {
    for (std::size_t client = 0; client < clients.size(); ++client) {
      auto options = options_.local;
      options.seed = Rng(options_.seed, "client", client, static_cast<std::uint64_t>(round)).next64();
      options.schedule = train::make_schedule(
          {{"kind", "multi_step"}, {"gamma", 0.5}, {"milestones", std::vector{round == 0 ? 3.0 : 1.0}}});
      train::train(self, options, {spec_, *objective, clients[client], nullptr, {}, nullptr, {}, {}}, state);
    }
  }
  expect_equal(state, visited.state);
}

TEST_F(Cyclic, ARankReadsOnlyTheSamplesOfItsOwnClients) {
  options_.rounds = 2;
  std::vector<std::shared_ptr<testing_support::CountingDataset>> counted;
  std::vector<data::DatasetPtr> clients;
  for (const auto& client : clients_of(made_up_dataset(world_, 300, spec_.input, 4))) {
    counted.push_back(std::make_shared<testing_support::CountingDataset>(client));
    clients.push_back(counted.back());
  }
  run(world_, clients);
  for (std::size_t client = 0; client < clients.size(); ++client) {
    const bool mine = rank_of_client(static_cast<int>(client), client_count_, world_.size()) == world_.rank();
    const auto reads = counted[client]->reads();
    const auto [least, most] = std::ranges::minmax(reads);
    EXPECT_GE(least, mine ? 2 * 2 : 0) << "each sample in each epoch";
    EXPECT_LE(most, mine ? 2 * 2 + 2 : 0) << "and the loader begins another batch before it is told to end";
  }
}

/// In the middle of a visit of the second round, by a signal to the rank that works, or to those that sleep.
TEST_F(Cyclic, StoppedInAVisitAndContinuedOnOtherRanksEqualsUninterrupted) {
  const auto whole = run(world_);
  const int owner = rank_of_client(3, client_count_, world_.size());
  constexpr std::int64_t kVisits = 6 + 3;  // before the stop
  for (const bool to_worker : {true, false}) {
    if (!to_worker && world_.size() == 1) continue;
    use_directory();
    std::atomic<bool> second_round{false};
    auto clients = clients_of(made_up_dataset(world_, 300, spec_.input, 4));
    clients[3] = std::make_shared<testing_support::CountingDataset>(
        clients[3], std::chrono::microseconds(to_worker ? 0 : 2000), [&](std::int64_t) {
          if (to_worker && second_round) stop_ = true;
        });
    std::optional<std::jthread> later;
    on_event_ = [&](const train::TrainEvent& e) {
      if (e.epoch != 1 || second_round.exchange(true) || to_worker || world_.rank() == owner) return;
      later.emplace([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
        stop_ = true;
      });
    };
    const auto first = run(world_, clients);
    EXPECT_EQ(first.result.end, train::TrainEnd::kStopped);
    EXPECT_GE(first.result.steps, to_worker ? kVisits : 6);
    EXPECT_LE(first.result.steps, to_worker ? kVisits : kVisits + 1);
    EXPECT_EQ(first.result.history.at("train.loss").size(), 1U);
    later.reset();
    stop_ = false;
    on_event_ = nullptr;

    const bool goes_on = world_.rank() < std::max(1, world_.size() / 2);
    const auto half = world_.split(goes_on ? 0 : 1, world_.rank());
    if (goes_on) {
      const auto second = run(half);
      EXPECT_EQ(second.result.end, train::TrainEnd::kFinished);
      expect_equal(whole.state, second.state);
      EXPECT_EQ(whole.result.metrics, second.result.metrics);
      EXPECT_EQ(second.result.history.at("train.loss").size(), 4U);
    }
    world_.barrier();
  }
}

TEST_F(Cyclic, AVisitThatFailsFailsTheStageOnEveryRank) {
  const auto clients = clients_of(made_up_dataset(world_, 300, spec_.input, 4));
  for (std::size_t failing = 0; failing < clients.size(); ++failing) {
    auto broken = clients;
    broken[failing] = std::make_shared<testing_support::CountingDataset>(
        clients[failing], std::chrono::microseconds{}, [](std::int64_t i) {
          if (i == 7) throw std::runtime_error("sample 7 is broken");
        });
    try {
      run(world_, broken);
      FAIL() << "a client without its data was visited";
    } catch (const Error& e) {
      EXPECT_TRUE(e.is_collective());
      EXPECT_STREQ(e.what(), "federation: sample 7 is broken");
    }
  }
}

TEST_F(Cyclic, TellsAfterEachVisitWhatIsDoneOfAllSamples) {
  options_.rounds = 1;
  options_.progress = ProgressMode::kBar;
  auto clients = clients_of(made_up_dataset(world_, 300, spec_.input, 4));
  for (auto& client : clients) {  // more than a tenth of a second each
    const std::chrono::microseconds delay(120000 / client->size());
    client = std::make_shared<testing_support::CountingDataset>(client, delay);
  }
  testing::internal::CaptureStderr();
  run(world_, clients);
  const auto text = testing::internal::GetCapturedStderr();
  if (!world_.is_root()) {  // which tells of its own parts, and not of the whole
    EXPECT_NE(text.find(fmt::format(" on rank {} [", world_.rank())), std::string::npos) << text;
    EXPECT_EQ(text.find("%  round 1/1"), std::string::npos) << text;
    return;
  }
  std::int64_t done = 0;
  for (std::size_t part = 0; part < clients.size(); ++part) {
    done += clients[part]->size();
    const auto told = fmt::format("{:3.0f}%  round 1/1, part {} of 6, loss ",
                                  100 * static_cast<double>(done) / 300, part + 1);
    EXPECT_NE(text.find(told), std::string::npos) << told << "\n" << text;
  }
  const auto own = world_.size() > 1 ? " on rank 0 [" : " [";
  EXPECT_NE(text.find(std::string("round 1/1, part 1 of 6") + own), std::string::npos) << text;
}

TEST(RankOfClient, SpreadsClientsAsShardsAre) {
  for (const int ranks : {1, 2, 4, 8}) {
    for (int rank = 0; rank < ranks; ++rank) {
      const auto mine = comm::shards_of_rank(rank, ranks, 8);
      for (int client = 0; client < 8; ++client)
        EXPECT_EQ(rank_of_client(client, 8, ranks) == rank, mine.begin <= client && client < mine.end);
    }
  }
  EXPECT_EQ(rank_of_client(1, 2, 8), 4) << "fewer clients than ranks are far from each other";
  for (int client = 0; client < 5; ++client) EXPECT_LT(rank_of_client(client, 5, 4), 4);
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

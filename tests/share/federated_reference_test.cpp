// Federated algorithms against plain NumPy, as federated_reference.py has written it, on any number of ranks.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <map>

#include "impart/nn/network.hpp"
#include "impart/share/federate/federate.hpp"
#include "memory_source.hpp"
#include "records.hpp"

namespace impart::share {
namespace {

constexpr int kClients = 5;
constexpr int kRounds = 4;
constexpr int kSteps = 6;
constexpr std::int64_t kFeatures = 5;

nn::ModelSpec softmax_regression() {
  nn::ModelSpec spec{"linear", Shape{kFeatures}, 3, {}};
  spec.layers = {{"dense", "", {{"units", std::int64_t{3}}}}};
  nn::name_layers(spec);
  return spec;
}

struct Case {
  std::string kind;
  SettingTable settings = {};
  SettingTable schedule = {};
};

const std::map<std::string, Case>& cases() {
  static const std::map<std::string, Case> all{
      {"fedavg", {"fedavg"}},
      {"fedprox", {"fedprox", {{"proximal_mu", 0.5}}}},
      {"scaffold", {"scaffold"}},
      {"scaffold_scheduled",
       {"scaffold", {{"server_learning_rate", 0.7}}, {{"kind", "step"}, {"step_epochs", 4}, {"gamma", 0.5}}}},
  };
  return all;
}

class FederatedReference : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(IMPART_REFERENCE))
      GTEST_SKIP() << "no reference values: install Debian's python3-numpy to compare with NumPy";
    reference_ = testing_support::read_records(IMPART_REFERENCE);
    directory_ =
        std::filesystem::temp_directory_path() / ("impart_federated_" + std::to_string(world_.size()));
    if (world_.is_root()) std::filesystem::remove_all(directory_);
    world_.barrier();
  }
  void TearDown() override {
    world_.barrier();
    if (world_.is_root()) std::filesystem::remove_all(directory_);
  }

  FederateOptions options() const {
    FederateOptions options;
    options.stage = GetParam();
    options.rounds = kRounds;
    options.fraction_fit = 0.6;
    options.seed = 21;
    options.local.epochs = kSteps;
    options.local.batch_size = 64;  // all samples of a client
    options.local.optimizer = train::make_optimizer({{"learning_rate", 0.3}});
    options.local.schedule = train::make_schedule(cases().at(GetParam()).schedule);
    return options;
  }

  StateDict start() const {
    StateDict state(nn::state_layout(spec_));
    const auto& values = reference_.at("start");
    std::size_t from = 0;
    for (const auto& entry : state.layout().entries()) {
      for (auto& x : state.values(entry)) x = static_cast<float>(values[from++]);
    }
    return state;
  }

  train::TrainResult run(const comm::Comm& comm, StateDict& state, bool stop_after_two = false) const {
    std::vector<data::DatasetPtr> clients;
    for (int k = 0; k < kClients; ++k) {
      testing_support::MemorySource source(
          Shape{kFeatures}, testing_support::floats(reference_.at("samples" + std::to_string(k))),
          testing_support::integers(reference_.at("labels" + std::to_string(k))));
      clients.push_back(data::read_dataset(comm, source, "client", 3));
    }
    std::atomic<bool> stop{false};
    std::function<void(const train::TrainEvent&)> on_event;
    if (stop_after_two) on_event = [&](const train::TrainEvent& event) { stop = event.step >= 2; };
    const auto& [kind, settings, schedule] = cases().at(GetParam());
    const auto algorithm = read_settings(
        settings, "test", [&](Settings& reader) { return federated_algorithms().make(reader, kind); });
    return federate(comm, *algorithm, options(),
                    {spec_, *objective_, clients, nullptr, on_event, &stop, directory_, "key"}, state);
  }

  comm::Comm world_ = comm::Comm::world();
  nn::ModelSpec spec_ = softmax_regression();
  std::unique_ptr<nn::Objective> objective_ = nn::make_cross_entropy();
  std::map<std::string, std::vector<double>> reference_;
  std::filesystem::path directory_;
};

TEST_P(FederatedReference, AgreesWithNumPy) {
  std::vector<double> chosen;
  for (int round = 0; round < kRounds; ++round) {
    for (const int client : select_clients(kClients, 0.6, 21, round)) chosen.push_back(client);
  }
  EXPECT_EQ(reference_.at("chosen"), chosen);
  auto state = start();
  run(world_, state);
  const auto& wanted = reference_.at(GetParam());
  std::size_t from = 0;
  for (const auto& entry : state.layout().entries()) {
    for (const float x : state.values(entry)) EXPECT_NEAR(x, wanted[from++], 2e-5) << entry.name;
  }
}

TEST_P(FederatedReference, StoppedAndContinuedOnOtherRanksEqualsUninterruptedOnOne) {
  const auto directory = std::exchange(directory_, {});
  auto whole = start();
  run(comm::Comm::self(), whole);
  directory_ = directory;
  auto first = start();
  EXPECT_EQ(run(world_, first, true).end, train::TrainEnd::kStopped);
  const bool goes_on = world_.rank() < std::max(1, world_.size() / 2);
  const auto half = world_.split(goes_on ? 0 : 1, world_.rank());
  if (!goes_on) return;
  auto second = start();
  const auto result = run(half, second);
  EXPECT_EQ(result.end, train::TrainEnd::kFinished);
  EXPECT_EQ(result.history.at("train.loss").size(), std::size_t{kRounds});
  EXPECT_TRUE(std::ranges::equal(std::as_bytes(whole.arena()), std::as_bytes(second.arena())));
}

std::vector<std::string> names() {
  std::vector<std::string> names;
  for (const auto& [name, settings] : cases()) names.push_back(name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(All, FederatedReference, testing::ValuesIn(names()),
                         [](const auto& instance) { return instance.param; });

}  // namespace
}  // namespace impart::share

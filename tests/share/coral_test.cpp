// Deep CORAL: loss and gradients as PyTorch's, the same bits on any number of ranks, and a domain adapted to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"
#include "impart/share/adapt/adapt_loss.hpp"
#include "impart/train/gradient_engine.hpp"
#include "impart/train/trainer.hpp"
#include "memory_source.hpp"
#include "nn/nn_testing.hpp"
#include "records.hpp"

namespace impart::share {
namespace {

using nn::testing::dense;
using nn::testing::layer;
using ::testing::HasSubstr;

nn::ModelSpec small_model() { return nn::testing::model({5}, 3, {dense(6), layer("tanh"), dense(3)}); }

std::unique_ptr<AdaptLoss> coral(SettingTable settings) {
  settings.insert(settings.begin(), {"kind", "coral"});
  return read_settings(settings, "loss", [](Settings& read) { return adapt_losses().make(read, ""); });
}

struct Domains {
  data::DatasetPtr source;
  data::DatasetPtr target;
};

/// Loss and gradient of step `step`, with so many source and target samples in each shard.
std::pair<double, std::vector<float>> compute(const comm::Comm& comm, const nn::ModelSpec& spec,
                                              const nn::Objective& objective, const Domains& domains,
                                              int shards, std::pair<int, int> each, int threads, int step,
                                              const char* sampler, const StateDict& state) {
  const auto batch = std::int64_t{shards} * each.first;
  const auto more = std::int64_t{shards} * each.second;
  train::GradientEngine engine(comm, spec, objective,
                               {{.shards = shards, .threads = threads}, batch, 0, {}, false, {more}});
  data::BatchLoader loader(domains.source,
                           {batch,
                            shards,
                            engine.range(),
                            5,
                            data::make_sampler(sampler),
                            {},
                            {{.dataset = domains.target,
                              .batch_size = more,
                              .sampler = data::make_sampler(sampler),
                              .labelled = false}}},
                           step);
  const auto& first = loader.next();
  EXPECT_TRUE(first.more.at(0).at(0).labels.empty());
  const auto result = engine.compute(state, first, false);
  return {result.loss, {engine.gradient().arena().begin(), engine.gradient().arena().end()}};
}

TEST(Coral, LossAndGradientsArePyTorchs) {
  if (!std::filesystem::exists(IMPART_REFERENCE))
    GTEST_SKIP() << "no reference values: install Debian's python3-torch to compare with PyTorch";
  const auto reference = testing_support::read_records(IMPART_REFERENCE);
  const auto world = comm::Comm::world();
  const auto spec = small_model();
  testing_support::MemorySource source(spec.input, testing_support::floats(reference.at("source")),
                                       testing_support::integers(reference.at("labels")));
  testing_support::MemorySource target(spec.input, testing_support::floats(reference.at("target")),
                                       std::vector<std::int32_t>(16));
  const Domains domains{data::read_dataset(world, source, "source", 3),
                        data::read_dataset(world, target, "target", 3)};
  StateDict state(nn::state_layout(spec));
  for (const auto& entry : state.layout().entries())
    std::ranges::copy(testing_support::floats(reference.at(entry.name)), state.values(entry).begin());
  for (const std::string name : {"tanh1", ""}) {
    SCOPED_TRACE(name);
    const auto loss = coral({{"layer", name}, {"weight", 0.7}});
    loss->check(spec);
    const auto objective = loss->objective(spec, nn::make_cross_entropy());
    const auto [value, arena] =
        compute(world, spec, *objective, domains, 4, {6, 4}, 1, 0, "sequential", state);
    EXPECT_NEAR(value / reference.at(name + ".loss")[0], 1, 1e-6);
    auto values = arena;
    const auto gradient = StateDict::view(state.layout_ptr(), values);
    for (const auto& entry : state.layout().entries()) {
      EXPECT_LT(nn::testing::relative_difference(
                    gradient.values(entry),
                    testing_support::floats(reference.at(name + ".gradient." + entry.name))),
                1e-5)
          << entry.name;
    }
  }
}

/// Also in the last step of an epoch, whose shards are not all full.
TEST(Coral, SameBitsOnAnyNumberOfRanksAndThreads) {
  const auto world = comm::Comm::world();
  const auto spec = small_model();
  const auto objective = coral({{"layer", "dense1"}})->objective(spec, nn::make_cross_entropy());
  const Domains domains{testing_support::made_up_dataset(world, 70, spec.input, 3),
                        testing_support::made_up_dataset(world, 50, spec.input, 3, 9)};
  const auto state = nn::initial_state(spec, 1);
  for (const int step : {0, 2, 7}) {
    const auto alone =
        compute(comm::Comm::self(), spec, *objective, domains, 8, {4, 3}, 1, step, "shuffled", state);
    EXPECT_EQ(compute(world, spec, *objective, domains, 8, {4, 3}, 1, step, "shuffled", state), alone);
    EXPECT_EQ(compute(world, spec, *objective, domains, 8, {4, 3}, 2, step, "shuffled", state), alone);
  }
}

TEST(Coral, TrainsTheSameOnAnyNumberOfRanks) {
  const auto spec = small_model();
  const auto objective =
      coral({{"layer", "tanh1"}, {"weight", 5}})->objective(spec, nn::make_cross_entropy());
  const auto train_on = [&](const comm::Comm& comm) {
    train::TrainerOptions options;
    options.stage = "adapt";
    options.epochs = 3;
    options.batch_size = 16;
    options.optimizer = train::make_optimizer({{"learning_rate", 0.05}, {"momentum", 0.9}});
    auto state = nn::initial_state(spec, 1);
    train::TrainTask task{spec,    *objective, testing_support::made_up_dataset(comm, 70, spec.input, 3),
                          nullptr, {},         nullptr,
                          {},      {}};
    task.more = {{.dataset = testing_support::made_up_dataset(comm, 50, spec.input, 3, 9),
                  .batch_size = 24,
                  .labelled = false}};
    const auto result = train::train(comm, options, task, state);
    const auto& losses = result.history.at("train.loss");
    EXPECT_LT(losses.back().value, losses.front().value);
    return std::vector<float>(state.arena().begin(), state.arena().end());
  };
  EXPECT_EQ(train_on(comm::Comm::world()), train_on(comm::Comm::self()));
}

TEST(Coral, RefusesWhatDoesNotFit) {
  const auto world = comm::Comm::world();
  const auto spec = small_model();
  EXPECT_THROW(coral({{"layer", "tahn1"}})->check(spec), Error);
  EXPECT_THROW(coral({{"weight", -1}}), Error);
  const auto objective = coral({})->objective(spec, nn::make_cross_entropy());
  EXPECT_THROW(train::GradientEngine(world, spec, *objective, {{.shards = 4}, 16}), Error);
  const auto source = testing_support::made_up_dataset(world, 20, spec.input, 3);
  const auto small = testing_support::made_up_dataset(world, 5, spec.input, 3);
  EXPECT_THROW(data::BatchLoader(source, {16, 4, {0, 4}, 5, {}, {}, {{.dataset = small, .batch_size = 8}}}),
               Error);
}

}  // namespace
}  // namespace impart::share

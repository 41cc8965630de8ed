#include "impart/train/local_workers.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"
#include "impart/train/trainer.hpp"
#include "memory_source.hpp"
#include "train/small_net.hpp"

namespace impart::train {
namespace {

using testing_support::made_up_dataset;
using testing_support::small_net;

/// 150 samples in batches of 32 and 8 shards of 4: the fifth batch has 22, which leave two shards empty, and
/// a third with two samples.
class LocalSgd : public testing::Test {
 protected:
  LocalSgd() {
    options_.stage = "stage";
    options_.epochs = 8;
    options_.batch_size = 32;
    options_.seed = 11;
    options_.local_steps = 3;
    options_.optimizer = make_optimizer(
        {{"learning_rate", 0.05}, {"momentum", 0.9}, {"nesterov", true}, {"weight_decay", 1e-3}});
    options_.schedule = make_schedule({{"kind", "cosine"}, {"warmup_epochs", 1.0}});
  }

  StateDict run(const comm::Comm& comm) {
    const auto objective = nn::make_cross_entropy();
    auto state = nn::initial_state(spec_, 3);
    const TrainTask task{spec_,
                         *objective,
                         made_up_dataset(comm, 150, spec_.input, 4),
                         made_up_dataset(comm, 90, spec_.input, 4),
                         {},
                         nullptr,
                         {},
                         {}};
    result_ = train(comm, options_, task, state);
    return state;
  }

  comm::Comm world_ = comm::Comm::world();
  nn::ModelSpec spec_ = small_net();
  TrainerOptions options_;
  TrainResult result_;
};

void expect_equal(std::span<const float> a, std::span<const float> b) {
  EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
}

TEST_F(LocalSgd, LearnsAndGivesTheSameBitsOnAnyNumberOfRanks) {
  const auto alone = run(comm::Comm::self());
  EXPECT_GT(result_.metrics.at("validation.accuracy"), 0.9);
  EXPECT_EQ(result_.steps, 40);
  EXPECT_EQ(result_.samples, 1200);
  const auto metrics = result_.metrics;
  options_.threads = 2;
  expect_equal(alone.arena(), run(world_).arena());
  EXPECT_EQ(result_.metrics, metrics);

  options_.optimizer = make_optimizer({{"kind", "adam"}, {"learning_rate", 0.01}});
  expect_equal(run(comm::Comm::self()).arena(), run(world_).arena());
  EXPECT_GT(result_.metrics.at("validation.accuracy"), 0.8);
}

/// Steps between averages need nobody else: the first rank makes all of its before the others begin.
TEST_F(LocalSgd, RanksSpeakToEachOtherOnlyToAverage) {
  const auto objective = nn::make_cross_entropy();
  const auto data = made_up_dataset(world_, 150, spec_.input, 4);
  const EngineOptions engine{{}, 32, 1};
  LocalWorkers workers(world_, spec_, *objective, engine, options_.optimizer, {});
  auto state = nn::initial_state(spec_, 3);
  Optimizer optimizer(options_.optimizer, state.layout_ptr(), {});
  data::BatchLoader loader(data, {32, 8, comm::shards_of_rank(world_.rank(), world_.size(), 8), 1});
  TransformChain transforms({}, state.layout_ptr());
  workers.start(state, optimizer, transforms);
  const auto make_steps = [&] {
    for (int step = 0; step < 4; ++step) workers.step(loader.next(), 1, step, world_.is_root());
  };
  if (world_.is_root()) make_steps();
  world_.barrier();
  if (!world_.is_root()) make_steps();
  const auto result = workers.average(state, optimizer, transforms);
  EXPECT_EQ(result.weight, 4 * 32);
  EXPECT_TRUE(result.stop) << "the root asked for it";
  EXPECT_GT(result.loss, 0);
}

/// Multinomial logistic regression by SGD with momentum, in double precision.
struct Reference {
  static constexpr std::size_t kInputs = 3;
  static constexpr std::size_t kClasses = 2;
  static constexpr std::size_t kSize =
      kClasses * (kInputs + 1);  // a row of weights and a bias for each class
  std::array<double, kSize> weights{};
  std::array<double, kSize> momentum{};

  void step(const data::ShardBatch& shard, double rate) {
    std::array<double, kSize> gradient{};
    for (std::size_t i = 0; i < shard.labels.size(); ++i) {
      const auto x = shard.inputs.subspan(i * kInputs, kInputs);
      std::array<double, kClasses> p{};
      double total = 0;
      for (std::size_t c = 0; c < kClasses; ++c) {
        double z = weights[c * (kInputs + 1) + kInputs];
        for (std::size_t k = 0; k < kInputs; ++k)
          z += weights[c * (kInputs + 1) + k] * static_cast<double>(x[k]);
        total += p[c] = std::exp(z);
      }
      for (std::size_t c = 0; c < kClasses; ++c) {
        const double slope = (p[c] / total - (shard.labels[i] == static_cast<int>(c) ? 1 : 0)) /
                             static_cast<double>(shard.labels.size());
        for (std::size_t k = 0; k < kInputs; ++k)
          gradient[c * (kInputs + 1) + k] += slope * static_cast<double>(x[k]);
        gradient[c * (kInputs + 1) + kInputs] += slope;
      }
    }
    for (std::size_t k = 0; k < kSize; ++k) {
      momentum[k] = 0.9 * momentum[k] + gradient[k];
      weights[k] -= rate * momentum[k];
    }
  }
};

TEST_F(LocalSgd, IsTheMeanOfWhatItsShardsDoAlone) {
  constexpr int kShards = 4;
  spec_ = {"line", Shape{3}, 2, {{"dense", "fc", {{"units", std::int64_t{2}}}}}};
  options_.epochs = 3;
  options_.batch_size = 8;
  options_.shards = kShards;
  options_.local_steps = 2;
  options_.optimizer = make_optimizer({{"learning_rate", 0.2}, {"momentum", 0.9}});
  options_.schedule = make_schedule();
  const auto data = made_up_dataset(world_, 29, spec_.input, 2);  // 8 + 8 | 8 + 5: the last shard is empty
  const auto objective = nn::make_cross_entropy();
  auto state = nn::initial_state(spec_, 3);
  const auto start = state.clone();
  train(world_, options_, {spec_, *objective, data, nullptr, {}, nullptr, {}, {}}, state);

  const auto place = [](std::size_t k) { return std::pair(k / 4, k % 4); };  // class, input or bias
  std::vector<Reference> workers(kShards);
  for (auto& worker : workers) {
    for (std::size_t k = 0; k < Reference::kSize; ++k) {
      const auto [row, column] = place(k);
      worker.weights[k] = static_cast<double>(column == 3 ? start.values("fc.bias")[row]
                                                          : start.values("fc.weight")[row * 3 + column]);
    }
  }
  data::BatchLoader loader(data, {8, kShards, {0, kShards}, options_.seed});
  for (int step = 0; step < 12; ++step) {
    const auto& batch = loader.next();
    for (std::size_t w = 0; w < kShards; ++w) {
      if (batch.shards[w].size > 0) workers[w].step(batch.shards[w], 0.2);
    }
    if (step % 2 == 0) continue;
    for (std::size_t k = 0; k < Reference::kSize; ++k) {
      double weight = 0;
      double momentum = 0;
      for (const auto& worker : workers) {
        weight += worker.weights[k] / kShards;
        momentum += worker.momentum[k] / kShards;
      }
      for (auto& worker : workers) {
        worker.weights[k] = weight;
        worker.momentum[k] = momentum;
      }
    }
  }
  for (std::size_t k = 0; k < Reference::kSize; ++k) {
    const auto [row, column] = place(k);
    const auto value =
        column == 3 ? state.values("fc.bias")[row] : state.values("fc.weight")[row * 3 + column];
    EXPECT_NEAR(value, workers[0].weights[k], 1e-5) << k;
    EXPECT_GT(std::abs(workers[0].weights[k] -
                       static_cast<double>(column == 3 ? start.values("fc.bias")[row]
                                                       : start.values("fc.weight")[row * 3 + column])),
              1e-3)
        << "nothing was learnt";
  }
}

/// Also where a mean over the shards would round: three equal numbers, added and divided by three.
TEST_F(LocalSgd, FrozenParametersKeepTheirBits) {
  options_.shards = 12;
  options_.batch_size = 36;
  options_.groups = {{"conv1.*", 1.0, true}, {"bn1.*", 1.0, true}};
  const auto before = nn::initial_state(spec_, 3);
  const auto after = run(world_);
  for (const auto& entry : before.layout().entries()) {
    if (entry.kind == StateKind::kBuffer) continue;
    const auto a = before.values(entry);
    const auto b = after.values(entry);
    const bool frozen = matches("conv1.*", entry.name) || matches("bn1.*", entry.name);
    EXPECT_EQ(std::equal(a.begin(), a.end(), b.begin()), frozen) << entry.name;
  }
}

TEST_F(LocalSgd, ALossThatIsNotFiniteNamesTheLayer) {
  options_.optimizer = make_optimizer({{"learning_rate", 1e30}, {"momentum", 0.9}});
  options_.schedule = make_schedule();
  try {
    run(world_);
    FAIL() << "training with a rate of 1e30 went on";
  } catch (const Error& e) {
    EXPECT_TRUE(e.is_collective());
    EXPECT_NE(std::string(e.what()).find("stage: the loss is"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("in layer '"), std::string::npos) << e.what();
  }
}

TEST_F(LocalSgd, WhatItCannotBeCombinedWithIsRefused) {
  const auto plain = options_;
  options_.accumulate = 2;
  EXPECT_THROW(run(world_), Error);
  options_ = plain;
  options_.solver = make_solver({{"kind", "least_squares"}});
  EXPECT_THROW(run(world_), Error);
  options_ = plain;
  options_.mesh.tensor = world_.size() > 1 ? 2 : 1;
  if (world_.size() > 1) {
    EXPECT_THROW(run(world_), Error);
  }
  options_ = plain;
  options_.batch_size = 30;
  EXPECT_THROW(run(world_), Error);
}

}  // namespace
}  // namespace impart::train

// Solvers on their own: minima, equal bits, what is refused, and a stop on the way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"
#include "impart/train/trainer.hpp"
#include "memory_source.hpp"
#include "train/small_net.hpp"

namespace impart::train {
namespace {

using testing::HasSubstr;
using testing_support::made_up_dataset;
using testing_support::MemorySource;
using testing_support::small_net;

nn::ModelSpec linear(std::int64_t inputs, int classes) {
  nn::ModelSpec spec{"linear",
                     Shape{1, inputs, 1},
                     classes,
                     {{"flatten", "", {}}, {"dense", "", {{"units", std::int64_t{classes}}}}}};
  nn::name_layers(spec);
  return spec;
}

class Solvers : public testing::Test {
 protected:
  struct Solved {
    TrainResult result;
    StateDict state;
  };

  Solved solve(const comm::Comm& comm, data::DatasetPtr data) {
    const auto objective = nn::make_objective(objective_);
    options_.stage = "stage";
    Solved solved{{}, nn::initial_state(spec_, 3)};
    const TrainTask task{spec_, *objective, data, data, on_event_, &stop_, directory_, "key"};
    solved.result = train(comm, options_, task, solved.state);
    return solved;
  }

  std::string refusal(data::DatasetPtr data) {
    try {
      solve(world_, std::move(data));
    } catch (const Error& e) {
      EXPECT_TRUE(e.is_collective());
      return e.what();
    }
    return "solved";
  }

  void TearDown() override {
    world_.barrier();
    if (world_.is_root() && !directory_.empty()) std::filesystem::remove_all(directory_);
  }

  comm::Comm world_ = comm::Comm::world();
  nn::ModelSpec spec_ = linear(20, 3);
  std::string objective_ = "cross_entropy";
  TrainerOptions options_;
  std::function<void(const TrainEvent&)> on_event_;
  std::atomic<bool> stop_{false};
  std::filesystem::path directory_;
};

bool equal(const StateDict& a, const StateDict& b) {
  return std::equal(a.arena().begin(), a.arena().end(), b.arena().begin(), b.arena().end());
}

TEST_F(Solvers, SameBitsOnAnyNumberOfRanksAndThreads) {
  const auto self = comm::Comm::self();
  for (const auto name : solvers().names()) {
    options_ = TrainerOptions();
    const bool least_squares = name == "least_squares";
    options_.solver =
        least_squares ? make_solver({{"kind", name}}) : make_solver({{"kind", name}, {"tolerance", 1e-4}});
    objective_ = least_squares ? "mean_squared_error" : "cross_entropy";
    options_.l2 = least_squares ? 0 : 0.01;
    const auto alone = solve(self, made_up_dataset(self, 700, spec_.input, 3));
    options_.threads = 2;
    const auto together = solve(world_, made_up_dataset(world_, 700, spec_.input, 3));
    EXPECT_TRUE(equal(alone.state, together.state)) << name;
    EXPECT_EQ(alone.result.metrics, together.result.metrics) << name;
    EXPECT_GT(alone.result.metrics.at("validation.accuracy"), 0.95) << name;
    EXPECT_EQ(alone.result.end, TrainEnd::kFinished);
  }
}

/// Both minimise the same function.
TEST_F(Solvers, NewtonAndLbfgsMeet) {
  const auto data = made_up_dataset(world_, 300, spec_.input, 3);
  for (const auto* kind : {"cross_entropy", "binary_cross_entropy"}) {
    objective_ = kind;
    options_ = TrainerOptions();
    options_.l2 = 0.05;
    options_.solver = make_solver({{"kind", "newton"}});
    const auto newton = solve(world_, data);
    options_.solver = make_solver({{"kind", "lbfgs"}, {"tolerance", 1e-5}});
    const auto lbfgs = solve(world_, data);
    EXPECT_NEAR(newton.result.metrics.at("train.loss"), lbfgs.result.metrics.at("train.loss"), 1e-6);
    const auto a = newton.state.values("dense1.weight");
    const auto b = lbfgs.state.values("dense1.weight");
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-3);
    EXPECT_LT(newton.result.steps, 15);
    EXPECT_LT(lbfgs.result.steps, 60);
  }
}

/// Logits of classes without a penalty are free to move together; the solver keeps them where they were.
TEST_F(Solvers, NewtonNeedsNoPenaltyWhereTheClassesOverlap) {
  options_.solver = make_solver({{"kind", "newton"}});
  Rng rng(1, "overlap");
  std::vector<float> values;
  std::vector<std::int32_t> labels;
  for (int i = 0; i < 400; ++i) {
    labels.push_back(i % 3);
    for (int k = 0; k < 4; ++k) values.push_back(static_cast<float>(rng.normal() + (k == i % 3 ? 0.5 : 0)));
  }
  spec_ = linear(4, 3);
  MemorySource source(spec_.input, values, labels);
  const auto solved = solve(world_, data::read_dataset(world_, source, "overlap", 3));
  const auto weight = solved.state.values("dense1.weight");
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(weight[i] + weight[4 + i] + weight[8 + i], 0, 1e-6);
  EXPECT_LT(solved.result.metrics.at("train.loss"), std::log(3.0));
}

TEST_F(Solvers, ASingularSystemNamesItsColumns) {
  std::vector<float> values;
  std::vector<std::int32_t> labels;
  Rng rng(1, "singular");
  for (int i = 0; i < 40; ++i) {
    const auto a = static_cast<float>(rng.normal());
    const auto b = static_cast<float>(rng.normal());
    for (const float value : {a, 5.0F, b, a - 2 * b}) values.push_back(value);
    labels.push_back(i % 3 == 0 ? 1 : 0);
  }
  spec_ = linear(4, 2);
  MemorySource source(spec_.input, values, labels);
  const auto data = data::read_dataset(world_, source, "singular", 2);
  for (const std::string kind : {"newton", "least_squares"}) {
    const bool newton = kind == "newton";
    objective_ = newton ? "cross_entropy" : "mean_squared_error";
    options_.solver = make_solver({{"kind", kind}});
    options_.l2 = 0;
    EXPECT_THAT(refusal(data),
                testing::AllOf(HasSubstr("stage: the columns of the"), HasSubstr("samples depend")))
        << kind;
    if (!newton) options_.solver = make_solver({{"kind", kind}, {"ridge", 1e-3}});
    options_.l2 = newton ? 1e-3 : 0;
    EXPECT_EQ(refusal(data), "solved");
  }
  options_.solver = make_solver({{"kind", "least_squares"}});
  options_.l2 = 0;
  EXPECT_THAT(refusal(data), HasSubstr("column 1 is constant"));
  // Without the constant column, two columns give the third.
  std::vector<float> three;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i % 4 != 1) three.push_back(values[i]);
  }
  spec_ = linear(3, 2);
  MemorySource rest(spec_.input, three, labels);
  EXPECT_THAT(refusal(data::read_dataset(world_, rest, "singular", 2)),
              testing::AllOf(HasSubstr("rank 2 of 3"), HasSubstr("depends on"),
                             HasSubstr("give the optimizer a ridge above 0")));
}

TEST_F(Solvers, ClassesThatCanBeToldApartNeedAPenalty) {
  options_.solver = make_solver({{"kind", "newton"}});
  spec_ = linear(1, 2);
  MemorySource source(spec_.input, {-2, -1, 1, 2}, {0, 0, 1, 1});
  const auto data = data::read_dataset(world_, source, "apart", 2);
  options_.solver = make_solver({{"kind", "newton"}, {"max_iterations", 10'000}});
  EXPECT_THAT(refusal(data), testing::AnyOf(HasSubstr("grow for ever"), "solved"));
  options_.l2 = 0.1;
  EXPECT_EQ(refusal(data), "solved");
}

TEST_F(Solvers, ModelsThatAreNotLinearAreRefused) {
  EXPECT_EQ(make_solver({{"kind", "newton"}})->why_not(linear(4, 2)), "");
  EXPECT_THAT(make_solver({{"kind", "least_squares"}})->why_not(small_net()),
              HasSubstr("'conv1' is of kind conv2d"));
  EXPECT_THAT(make_solver({{"kind", "lbfgs"}})->why_not(small_net()), HasSubstr("dropout"));
  auto two = linear(4, 2);
  two.layers.push_back({"dense", "last", {{"units", std::int64_t{2}}}});
  EXPECT_THAT(make_solver({{"kind", "newton"}})->why_not(two),
              HasSubstr("'last' is of kind dense, after the first"));
}

/// A network with batch norm, stopped in its third iteration.
TEST_F(Solvers, LbfgsStoppedAndContinuedEqualsUninterrupted) {
  spec_ = small_net();
  std::erase_if(spec_.layers, [](const auto& layer) { return layer.kind == "dropout"; });
  options_.solver =
      make_solver({{"kind", "lbfgs"}, {"tolerance", 1e-3}, {"max_iterations", 14}, {"memory", 3}});
  options_.l2 = 0.01;
  options_.batch_size = 32;
  const auto data = made_up_dataset(world_, 150, spec_.input, 4);
  const auto whole = solve(world_, data);
  const auto& losses = whole.result.history.at("train.loss");
  EXPECT_LT(losses.back().value, 0.5 * losses.front().value);
  for (std::size_t i = 1; i < losses.size(); ++i) EXPECT_LE(losses[i].value, losses[i - 1].value + 1e-6);

  directory_ =
      std::filesystem::temp_directory_path() / ("impart_lbfgs_test_" + std::to_string(world_.size()));
  if (world_.is_root()) std::filesystem::remove_all(directory_);
  world_.barrier();
  on_event_ = [&](const TrainEvent& event) { stop_ = event.step == 2; };
  const auto first = solve(world_, data);
  EXPECT_EQ(first.result.end, TrainEnd::kStopped);
  EXPECT_EQ(first.result.steps, 3);
  on_event_ = nullptr;
  stop_ = false;
  const auto second = solve(world_, data);
  EXPECT_TRUE(equal(whole.state, second.state));
  EXPECT_EQ(whole.result.metrics, second.result.metrics);
  EXPECT_EQ(losses.size(), second.result.history.at("train.loss").size());
}

}  // namespace
}  // namespace impart::train

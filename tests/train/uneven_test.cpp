// Samples that no number of ranks divides, tails, ranks without a sample, ranks that read at different speed.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <vector>

#include "counting_dataset.hpp"
#include "impart/nn/network.hpp"
#include "impart/train/evaluator.hpp"
#include "impart/train/trainer.hpp"
#include "memory_source.hpp"
#include "train/small_net.hpp"

namespace impart::train {
namespace {

using testing_support::CountingDataset;
using testing_support::made_up_dataset;
using testing_support::small_net;

constexpr std::int64_t kSizes[] = {1, 5, 37, 97};

/// Cross entropy that counts the samples whose gradients it gives.
class CountingObjective final : public nn::Objective {
 public:
  explicit CountingObjective(std::int64_t samples) : trained_(static_cast<std::size_t>(samples)) {}

  [[nodiscard]] std::string_view kind() const override { return "counting"; }

  double evaluate(std::span<const float> outputs, const nn::Targets& targets, std::int64_t classes,
                  float scale, std::span<float> gradient) const override {
    for (const auto row : targets.rows) {
      if (!gradient.empty()) ++trained_[row];
    }
    return base_->evaluate(outputs, targets, classes, scale, gradient);
  }

  [[nodiscard]] std::vector<std::int64_t> trained(const comm::Comm& comm) const {
    std::vector<std::int64_t> all(trained_.begin(), trained_.end());
    comm.sum_in_place(std::span(all), "trained");
    return all;
  }

 private:
  std::unique_ptr<nn::Objective> base_ = nn::make_cross_entropy();
  mutable std::vector<std::atomic<std::int64_t>> trained_;
};

class Uneven : public testing::Test {
 protected:
  Uneven() {
    options_.stage = "stage";
    options_.epochs = 3;
    options_.batch_size = 24;
    options_.shards = world_.size() == 3 ? 6 : 8;
    options_.seed = 11;
    options_.optimizer = make_optimizer({{"learning_rate", 0.05}, {"momentum", 0.9}});
  }

  StateDict run(const comm::Comm& comm, const data::DatasetPtr& data, const data::DatasetPtr& validation) {
    const CountingObjective objective(data->size());
    auto state = nn::initial_state(spec_, 3);
    result_ = train(comm, options_, {spec_, objective, data, validation, {}, nullptr, {}, {}}, state);
    EXPECT_EQ(objective.trained(comm),
              std::vector<std::int64_t>(static_cast<std::size_t>(data->size()), options_.epochs))
        << "each sample in each epoch, on one rank";
    return state;
  }

  comm::Comm world_ = comm::Comm::world();
  nn::ModelSpec spec_ = small_net();
  TrainerOptions options_;
  TrainResult result_;
};

void expect_equal(const StateDict& a, const StateDict& b) {
  EXPECT_TRUE(std::equal(a.arena().begin(), a.arena().end(), b.arena().begin(), b.arena().end()));
}

TEST_F(Uneven, EverySampleIsTrainedOnOnceAnEpochAndEvaluatedOnce) {
  for (const int together : {1, 2}) {
    for (const bool local : {false, true}) {
      options_.accumulate = local ? 1 : together;
      options_.local_steps = local ? together : 1;
      for (const auto size : kSizes) {
        SCOPED_TRACE(testing::Message() << size << " samples, " << together << " batches together");
        const auto data = made_up_dataset(world_, size, spec_.input, 4);
        const auto other =
            std::make_shared<CountingDataset>(made_up_dataset(world_, size, spec_.input, 4, 2));
        options_.threads = 2;
        const auto shared = run(world_, data, other);
        EXPECT_EQ(other->reads(world_),
                  std::vector<std::int64_t>(static_cast<std::size_t>(size), options_.epochs))
            << "once in each evaluation, by one rank";
        EXPECT_EQ(result_.samples, 3 * size);
        const auto metrics = result_.metrics;
        options_.threads = 1;
        expect_equal(shared, run(comm::Comm::self(), data, other));
        EXPECT_EQ(result_.metrics, metrics);
      }
    }
  }
}

/// What is reported of an evaluation is the mean over the samples, each once.
TEST_F(Uneven, MetricsAreThoseOfAllSamples) {
  const auto state = nn::initial_state(spec_, 3);
  const auto objective = nn::make_cross_entropy();
  for (const auto size : kSizes) {
    const auto data = made_up_dataset(world_, size, spec_.input, 4);
    const auto outputs = predict(world_, spec_, state, *data, 2);
    const auto metrics = classification_metrics(outputs, *data, *objective);
    nn::Network network(spec_, 1);
    network.load(state);
    std::vector<float> sample(static_cast<std::size_t>(spec_.input.elements()));
    double right = 0;
    double loss = 0;
    for (std::int64_t i = 0; i < size; ++i) {
      data->get(i, sample);
      const auto scores = network.forward({}, sample);
      const auto label = data->label(i);
      right += std::ranges::max_element(scores) - scores.begin() == label ? 1 : 0;
      double total = 0;
      for (const float score : scores) total += std::exp(static_cast<double>(score));
      loss += std::log(total) - static_cast<double>(scores[static_cast<std::size_t>(label)]);
    }
    EXPECT_NEAR(metrics.at("accuracy"), right / static_cast<double>(size), 1e-12) << size;
    EXPECT_NEAR(metrics.at("loss"), loss / static_cast<double>(size), 1e-5) << size;
  }
}

TEST_F(Uneven, RanksThatReadAtDifferentSpeedGiveTheSameBits) {
  options_.epochs = 2;
  const auto data = made_up_dataset(world_, 37, spec_.input, 4);
  const auto other = made_up_dataset(world_, 29, spec_.input, 4);
  const auto alone = run(comm::Comm::self(), data, other);
  // The last rank is the slowest, and then the first.
  for (const int slow : {world_.size() - 1, 0}) {
    const std::chrono::microseconds pause(1500 / (1 + std::abs(world_.rank() - slow)));
    for (const auto overlap :
         {comm::Overlap::kAuto, comm::Overlap::kBlocking, comm::Overlap::kPolling, comm::Overlap::kThread}) {
      options_.overlap = overlap;
      expect_equal(alone, run(world_, std::make_shared<CountingDataset>(data, pause),
                              std::make_shared<CountingDataset>(other, pause)));
    }
  }
  options_.local_steps = 2;
  const auto local = run(comm::Comm::self(), data, other);
  const std::chrono::microseconds pause(1500 / (1 + world_.rank()));
  expect_equal(local, run(world_, std::make_shared<CountingDataset>(data, pause), other));
}

/// The solvers, too, where some ranks have nothing.
TEST_F(Uneven, SolversGiveTheSameBits) {
  spec_ = {"line", Shape{3}, 4, {{"dense", "fc", {{"units", std::int64_t{4}}}}}};
  const auto objective = nn::make_cross_entropy();
  const auto squares = nn::make_objective("mean_squared_error");
  const SolverPtr solvers[] = {make_solver({{"kind", "least_squares"}, {"ridge", 0.1}}),
                               make_solver({{"kind", "newton"}, {"tolerance", 0.01}, {"max_iterations", 50}}),
                               make_solver({{"kind", "lbfgs"}, {"tolerance", 0.01}, {"max_iterations", 50}})};
  for (const auto& solver : solvers) {
    options_.solver = solver;
    const bool least_squares = solver->kind() == "least_squares";
    options_.l2 = least_squares ? 0 : 0.1;
    for (const auto size : kSizes) {
      const auto data = made_up_dataset(world_, size, spec_.input, 4);
      const auto solve_on = [&](const comm::Comm& comm) {
        auto state = nn::initial_state(spec_, 3);
        train(comm, options_,
              {spec_, least_squares ? *squares : *objective, data, nullptr, {}, nullptr, {}, {}}, state);
        return state;
      };
      expect_equal(solve_on(comm::Comm::self()), solve_on(world_));
    }
  }
}

}  // namespace
}  // namespace impart::train

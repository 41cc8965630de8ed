// Hints: loss and gradients as PyTorch's, the same bits on any number of ranks, and a student without them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>

#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"
#include "impart/share/distil/distil_loss.hpp"
#include "impart/train/gradient_engine.hpp"
#include "impart/train/trainer.hpp"
#include "impart/train/training_state.hpp"
#include "memory_source.hpp"
#include "nn/nn_testing.hpp"
#include "records.hpp"

namespace impart::share {
namespace {

using nn::testing::conv2d;
using nn::testing::dense;
using nn::testing::layer;
using ::testing::HasSubstr;

nn::ModelSpec student() {
  return nn::testing::model({2, 6, 6}, 3, {conv2d(4, 3), layer("tanh"), layer("flatten"), dense(3)});
}
nn::ModelSpec teacher() {
  return nn::testing::model({2, 6, 6}, 3, {conv2d(5, 4), layer("tanh"), layer("flatten"), dense(3)});
}

std::unique_ptr<DistilLoss> hint(SettingTable settings) {
  settings.insert(settings.begin(), {"kind", "hint"});
  return read_settings(settings, "loss", [](Settings& read) { return distil_losses().make(read, ""); });
}

/// A student, its teacher, and what it is taught.
class Hinted : public ::testing::Test {
 protected:
  void make_objective(double label_weight = 1) {
    const auto loss = hint(
        {{"layer", "tanh1"}, {"teacher_layer", "tanh1"}, {"weight", 0.3}, {"label_weight", label_weight}});
    loss->check(student_, std::vector<const nn::ModelSpec*>{&teacher_});
    teachers_ = {{&teacher_, &teacher_state_}};
    objective_ = loss->objective({.student = student_, .teachers = teachers_});
  }

  /// Loss and gradient of the first batch, of all samples.
  std::pair<double, std::vector<float>> compute(const comm::Comm& comm, const data::DatasetPtr& data,
                                                int shards, int threads, const StateDict& state) const {
    train::GradientEngine engine(comm, student_, *objective_,
                                 {{.shards = shards, .threads = threads}, data->size()});
    data::BatchLoader loader(data,
                             {data->size(), shards, engine.range(), 5, data::make_sampler("sequential")});
    const auto result = engine.compute(state, loader.next(), false);
    return {result.loss, {engine.gradient().arena().begin(), engine.gradient().arena().end()}};
  }

  comm::Comm world_ = comm::Comm::world();
  nn::ModelSpec student_ = student();
  nn::ModelSpec teacher_ = teacher();
  StateDict teacher_state_ = nn::initial_state(teacher_, 2);
  std::vector<Teacher> teachers_;
  std::unique_ptr<nn::Objective> objective_;
};

TEST_F(Hinted, LossAndGradientsArePyTorchs) {
  if (!std::filesystem::exists(IMPART_REFERENCE))
    GTEST_SKIP() << "no reference values: install Debian's python3-torch to compare with PyTorch";
  const auto reference = testing_support::read_records(IMPART_REFERENCE);
  for (const auto* name : {"conv1.weight", "conv1.bias"}) {
    std::ranges::copy(testing_support::floats(reference.at(std::string("teacher.") + name)),
                      teacher_state_.values(name).begin());
  }
  make_objective();
  StateDict state(train::training_layout(student_, objective_->needs()));
  for (const auto& entry : state.layout().entries()) {
    std::ranges::copy(testing_support::floats(reference.at("student." + entry.name)),
                      state.values(entry).begin());
  }
  testing_support::MemorySource source(student_.input, testing_support::floats(reference.at("inputs")),
                                       testing_support::integers(reference.at("labels")));
  const auto data = data::read_dataset(world_, source, "reference", 3);
  for (const int shards : {4, 8}) {
    const auto [loss, arena] = compute(world_, data, shards, 1, state);
    EXPECT_NEAR(loss / reference.at("loss")[0], 1, 1e-6);
    auto values = arena;
    const auto gradient = StateDict::view(state.layout_ptr(), values);
    for (const auto& entry : state.layout().entries()) {
      EXPECT_LT(nn::testing::relative_difference(
                    gradient.values(entry),
                    testing_support::floats(reference.at("gradient.student." + entry.name))),
                1e-5)
          << entry.name;
    }
  }
}

TEST_F(Hinted, SameBitsOnAnyNumberOfRanksAndThreads) {
  make_objective();
  const auto data = testing_support::made_up_dataset(world_, 48, student_.input, 3);
  const auto state = train::training_state(student_, objective_->needs(), nn::initial_state(student_, 1), 4);
  const auto alone = compute(comm::Comm::self(), data, 8, 1, state);
  EXPECT_EQ(compute(world_, data, 8, 1, state), alone);
  EXPECT_EQ(compute(world_, data, 8, 2, state), alone);
}

TEST_F(Hinted, TheStudentComesNearerAndIsLeftWithoutTheProjection) {
  make_objective(0);
  const auto train_on = [&](const comm::Comm& comm) {
    const auto data = testing_support::made_up_dataset(comm, 70, student_.input, 3);
    train::TrainerOptions options;
    options.stage = "hints";
    options.epochs = 6;
    options.batch_size = 16;
    options.optimizer = train::make_optimizer({{"learning_rate", 0.02}, {"momentum", 0.9}});
    auto state = nn::initial_state(student_, 1);
    auto result =
        train::train(comm, options, {student_, *objective_, data, nullptr, {}, nullptr, {}, {}}, state);
    const auto& losses = result.history.at("train.loss");
    EXPECT_LT(losses.back().value, 0.5 * losses.front().value);
    EXPECT_FALSE(state.layout().difference(*nn::state_layout(student_)));
    return std::vector<float>(state.arena().begin(), state.arena().end());
  };
  EXPECT_EQ(train_on(world_), train_on(comm::Comm::self()));
}

TEST_F(Hinted, AStoppedTrainingContinuesWithItsProjection) {
  make_objective();
  const auto data = testing_support::made_up_dataset(world_, 70, student_.input, 3);
  const auto directory =
      std::filesystem::temp_directory_path() / ("impart_hint_test_" + std::to_string(world_.size()));
  if (world_.is_root()) std::filesystem::remove_all(directory);
  world_.barrier();
  train::TrainerOptions options;
  options.stage = "hints";
  options.epochs = 3;
  options.batch_size = 16;
  options.optimizer = train::make_optimizer({{"learning_rate", 0.02}, {"momentum", 0.9}});
  const auto train_into = [&](StateDict& state, const std::filesystem::path& states, bool stops) {
    state = nn::initial_state(student_, 1);
    std::atomic<bool> stop{stops};
    const train::TrainTask task{student_, *objective_, data, nullptr, {}, &stop, states, "key"};
    return train::train(world_, options, task, state).end;
  };
  StateDict whole;
  StateDict parts;
  EXPECT_EQ(train_into(whole, {}, false), train::TrainEnd::kFinished);
  EXPECT_EQ(train_into(parts, directory, true), train::TrainEnd::kStopped);
  EXPECT_EQ(train_into(parts, directory, false), train::TrainEnd::kFinished);
  EXPECT_TRUE(std::ranges::equal(whole.arena(), parts.arena()));
  world_.barrier();
  if (world_.is_root()) std::filesystem::remove_all(directory);
}

TEST_F(Hinted, RefusesWhatDoesNotFit) {
  const auto refused = [&](const SettingTable& settings, const char* wanted) {
    try {
      hint(settings)->check(student_, std::vector<const nn::ModelSpec*>{&teacher_});
      ADD_FAILURE() << "accepted: " << wanted;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUsage);
      EXPECT_THAT(e.what(), HasSubstr(wanted));
    }
  };
  refused({{"layer", "tanh1"}}, "teacher_layer");
  refused({{"layer", "tahn1"}, {"teacher_layer", "tanh1"}}, "did you mean 'tanh1'");
  refused({{"layer", "tanh1"}, {"teacher_layer", "flatten1"}}, "cannot be projected");
  make_objective();
  train::TrainerOptions options;
  options.local_steps = 2;
  const auto data = testing_support::made_up_dataset(world_, 16, student_.input, 3);
  auto state = nn::initial_state(student_, 1);
  const train::TrainTask task{student_, *objective_, data, nullptr, {}, nullptr, {}, {}};
  EXPECT_THROW(train::train(world_, options, task, state), Error);
}

}  // namespace
}  // namespace impart::share

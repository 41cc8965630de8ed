// The last rank fails at one place of a training, while the others go on. All must end soon, with one
// message.
//
// usage: failing_rank reading|set-up|restore|input|killed|forward|weight|event|evaluation|snapshot|between

#include <fmt/format.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "impart/io/checkpoint.hpp"
#include "impart/nn/network.hpp"
#include "impart/train/trainer.hpp"
#include "memory_source.hpp"
#include "train/small_net.hpp"

namespace {

using namespace impart;

std::string_view failing;  // what fails on this rank; empty on the others

void fail_at(std::string_view place) {
  if (place != failing) return;
  if (place == "killed") raise(SIGKILL);
  throw std::runtime_error(std::string(place) + " failed");
}

/// A dataset that fails at some time when a sample is wanted.
class FailingDataset final : public data::Dataset {
 public:
  FailingDataset(data::DatasetPtr base, int from, std::string_view place)
      : base_(std::move(base)), from_(from), place_(place) {}
  [[nodiscard]] std::int64_t size() const override { return base_->size(); }
  [[nodiscard]] const Shape& sample_shape() const override { return base_->sample_shape(); }
  [[nodiscard]] int classes() const override { return base_->classes(); }
  void get(std::int64_t i, std::span<float> out) const override {
    if (++calls_ > from_) fail_at(place_);
    base_->get(i, out);
  }
  [[nodiscard]] std::int32_t label(std::int64_t i) const override { return base_->label(i); }
  [[nodiscard]] std::uint64_t id(std::int64_t i) const override { return base_->id(i); }
  [[nodiscard]] const Digest& digest(std::int64_t i) const override { return base_->digest(i); }

 private:
  data::DatasetPtr base_;
  int from_;
  std::string_view place_;
  mutable std::atomic<int> calls_{0};
};

/// Cross entropy that fails after some steps.
class FailingObjective final : public nn::Objective {
 public:
  [[nodiscard]] std::string_view kind() const override { return "failing"; }
  double evaluate(std::span<const float> outputs, const nn::Targets& targets, std::int64_t classes,
                  float scale, std::span<float> gradient) const override {
    if (++calls_ > 20) fail_at("forward");
    return base_->evaluate(outputs, targets, classes, scale, gradient);
  }
  [[nodiscard]] double weight(const nn::Targets& targets) const override {
    if (calls_ > 20) fail_at("weight");
    return base_->weight(targets);
  }

 private:
  std::unique_ptr<nn::Objective> base_ = nn::make_cross_entropy();
  mutable std::atomic<int> calls_{0};
};

void train_or_fail(const comm::Comm& world, std::string_view place) {
  const auto spec = testing_support::small_net(4, true);
  comm::agree(world, "data", [] { fail_at("reading"); });
  const auto data = testing_support::made_up_dataset(world, 150, spec.input, 4);
  const auto validation = testing_support::made_up_dataset(world, 600, spec.input, 4);  // some for every rank
  const FailingObjective objective;
  train::TrainerOptions options;
  options.stage = "stage";
  options.epochs = 4;
  options.batch_size = failing == "set-up" ? 33 : 32;
  options.optimizer = train::make_optimizer({{"learning_rate", 0.01}});
  const std::atomic<bool> stop{false};
  std::filesystem::path directory = fmt::format("failing_rank_{}_{}_{}", place, world.size(), world.rank());
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  if (failing == "snapshot") directory = "/dev/null/state";
  if (failing == "restore") {  // a whole state, of another model
    io::Checkpoint other;
    other.state = nn::initial_state(testing_support::small_net(3), 1);
    other.progress = io::ProgressRecord{};
    other.lineage.stage = "key";
    io::write_checkpoint(directory / "step-00000001.h5", other);
  }
  const train::TrainTask task{
      spec,
      objective,
      std::make_shared<FailingDataset>(data, 40, failing == "killed" ? "killed" : "input"),
      std::make_shared<FailingDataset>(validation, 10, "evaluation"),
      [](const train::TrainEvent&) { fail_at("event"); },
      &stop,
      directory,
      "key"};
  auto state = nn::initial_state(spec, 3);
  train::train(world, options, task, state);
  fail_at("between");
  world.barrier();
  std::puts("trained to the end");
}

}  // namespace

// As main.cpp does.
int main(int argc, char** argv) {
  const comm::MpiSession session(&argc, &argv);
  const auto world = comm::Comm::world();
  log::configure(world.rank(), world.size());
  const std::string_view place = argc > 1 ? argv[1] : "";
  // One rank saves for all.
  if (world.rank() == (place == "snapshot" ? 0 : world.size() - 1)) failing = place;
  try {
    train_or_fail(world, place);
    return 0;
  } catch (const Error& e) {
    if (e.is_collective()) {
      if (world.is_root()) std::fprintf(stderr, "error: %s\n", e.what());
      return 1;
    }
    log::error(e.what());
  } catch (const std::exception& e) {
    log::error(e.what());
  }
  MPI_Abort(MPI_COMM_WORLD, 1);
  return 1;
}

// Clients that train one after another, each from the weights that the one before has left.
#include <fmt/format.h>

#include <array>

#include "impart/core/clock.hpp"
#include "impart/share/federate/federate.hpp"
#include "share/federate/rounds.hpp"

namespace impart::share {

namespace {

/// A step is a client's visit.
class Cyclic final : public Rounds {
 public:
  Cyclic(const comm::Comm& comm, const FederateOptions& options, const FederateTask& task, StateDict& state)
      : Rounds(comm, options, task, state,
               std::ssize(select_clients(static_cast<int>(task.clients.size()), options.fraction_fit,
                                         options.seed, 0)),
               "visit") {}

 protected:
  StepOutcome run_step() override {
    const int client = clients_of_round(round())[static_cast<std::size_t>(step() % steps_per_round_)];
    const int owner = rank_of_client(client, static_cast<int>(task_.clients.size()), comm_.size());
    const auto start = Clock::now();
    double trained_for = 0;
    std::array<double, 2> report{};  // whether the visit is finished, and the loss
    comm::work_alone(comm_, owner, options_.stage, [&] {
      auto weights = state_.clone();
      const auto trained = train_client(client, visit_options(client), weights);
      trained_for = seconds_since(start);
      seconds_.input += trained.seconds.input;
      seconds_.forward += trained.seconds.forward;
      seconds_.backward += trained.seconds.backward;
      seconds_.update += trained.seconds.update;
      seconds_.compute += trained_for - trained.seconds.input;
      if (trained.end == train::TrainEnd::kStopped) return;
      state_.copy_from(weights);
      report = {1, trained.metrics.at("train.loss")};
    });
    comm_.broadcast<double>(report, owner, "report of a visit");
    const auto [finished, loss] = report;
    if (finished != 0) comm_.broadcast(state_.arena(), owner, "weights");
    seconds_.communication += seconds_since(start) - trained_for;
    if (finished == 0) return {};
    return {true, static_cast<double>(samples_of(client)) * loss, samples_of(client)};
  }

  /// "round 1/2, part 3 of 8".
  [[nodiscard]] std::string describe(std::int64_t step) const override {
    return fmt::format("{}, part {} of {}", Rounds::describe(step), step % steps_per_round_ + 1,
                       steps_per_round_);
  }

 private:
  [[nodiscard]] train::TrainerOptions visit_options(int client) const {
    auto options = client_options(client);
    options.stage = describe(step());
    if (comm_.size() > 1) options.stage += fmt::format(" on rank {}", comm_.rank());
    options.shards = options_.shards;
    options.threads = options_.threads;
    options.progress = options_.progress;  // a visit may take long, and nobody else speaks meanwhile
    return options;
  }
};

}  // namespace

int rank_of_client(int client, int clients, int ranks) {
  return static_cast<int>(static_cast<std::int64_t>(client) * ranks / clients);
}

train::TrainResult cyclic_transfer(const comm::Comm& comm, const FederateOptions& options,
                                   const FederateTask& task, StateDict& state) {
  return Cyclic(comm, options, task, state).execute();
}

}  // namespace impart::share

#include "share/federate/rounds.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "impart/core/log.hpp"
#include "impart/core/rng.hpp"
#include "impart/share/ensemble/model.hpp"

namespace impart::share {

Rounds::Rounds(const comm::Comm& comm, const FederateOptions& options, const FederateTask& task,
               StateDict& state, std::int64_t steps_per_round, const char* step_name)
    : comm_(comm),
      options_(options),
      task_(task),
      state_(state),
      steps_per_round_(steps_per_round),
      step_name_(step_name),
      self_(comm::Comm::self()),
      saved_(comm, {.data = comm.size()}, task.spec, task.state_directory, task.state_key),
      progress_(comm.is_root() ? options.progress : ProgressMode::kNone, options.stage, "samples",
                samples_of_rounds()) {}

train::TrainResult Rounds::execute() {
  comm::agree(comm_, "continuing from " + task_.state_directory.string(), [&] { restore(); });
  const auto total = options_.rounds * steps_per_round_;
  progress_.update(result_.samples, "");
  while (step_ < total) {
    const auto outcome = run_step();
    if (outcome.finished) {
      loss_ += outcome.loss;
      result_.samples += outcome.samples * options_.local.epochs;
      ++step_;
      if (step_ % steps_per_round_ == 0) end_round();
      progress_.update(result_.samples, fmt::format("{}, loss {:.4f}", describe(step_ - 1),
                                                    outcome.loss / static_cast<double>(outcome.samples)));
    }
    if (!outcome.finished || (step_ < total && stop_wanted())) {
      save();
      result_.end = train::TrainEnd::kStopped;
      break;
    }
    if (step_ < total && step_ % steps_per_round_ == 0) save();
  }
  saved_.finish();
  result_.epochs = round();
  result_.steps = result_.kept_step = step_;
  result_.seconds = seconds_;
  return std::move(result_);
}

std::string Rounds::describe(std::int64_t step) const {
  return fmt::format("round {}/{}", step / steps_per_round_ + 1, options_.rounds);
}

std::vector<int> Rounds::clients_of_round(std::int64_t round) const {
  return select_clients(static_cast<int>(task_.clients.size()), options_.fraction_fit, options_.seed, round);
}

std::int64_t Rounds::samples_of(int client) const {
  return task_.clients[static_cast<std::size_t>(client)]->size();
}

std::int64_t Rounds::samples_of(const std::vector<int>& clients) const {
  std::int64_t samples = 0;
  for (const int client : clients) samples += samples_of(client);
  return samples;
}

/// Each client's as often as it trains.
std::int64_t Rounds::samples_of_rounds() const {
  std::int64_t samples = 0;
  for (int round = 0; round < options_.rounds; ++round) samples += samples_of(clients_of_round(round));
  return samples * options_.local.epochs;
}

/// Some ranks may have been told to stop, and others not.
bool Rounds::stop_wanted() const {
  std::int32_t wanted = task_.stop != nullptr && task_.stop->load() ? 1 : 0;
  comm_.max_in_place(std::span(&wanted, 1), "stop");
  return wanted != 0;
}

train::TrainerOptions Rounds::client_options(int client) const {
  auto options = options_.local;
  options.progress = ProgressMode::kNone;
  options.mesh = {};
  options.seed =
      Rng(options_.seed, "client", static_cast<std::uint64_t>(client), static_cast<std::uint64_t>(round()))
          .next64();
  options.schedule_epochs = options_.rounds * options.epochs;
  options.schedule_start = static_cast<int>(round()) * options.epochs;
  return options;
}

train::TrainResult Rounds::train_client(int client, const train::TrainerOptions& options,
                                        StateDict& weights) const {
  const auto& data = task_.clients[static_cast<std::size_t>(client)];
  return train::train(self_, options, {task_.spec, task_.objective, data, nullptr, {}, task_.stop, {}, {}},
                      weights);
}

void Rounds::end_round() {
  event("train.loss", loss_ / static_cast<double>(samples_of(clients_of_round(round() - 1))));
  loss_ = 0;
  if (task_.validation == nullptr) return;
  const Model model = single(task_.spec, state_.clone());
  for (const auto& [name, value] : evaluate(comm_, model, task_.validation, options_.threads)) {
    event("validation." + name, value);
  }
}

void Rounds::event(const std::string& name, double value) {
  result_.history[name].push_back({step_, value});
  result_.metrics[name] = value;
  if (task_.on_event) task_.on_event({round(), step_, name, value});
}

/// Unless it is saved.
void Rounds::save() {
  if (saved_step_ == step_ || task_.state_directory.empty()) return;
  saved_step_ = step_;
  auto algorithm = algorithm_state();
  seconds_.checkpoint += saved_.save([&] {
    auto checkpoint = saved_.snapshot(state_.clone());
    checkpoint.optimizer = std::move(algorithm);
    checkpoint.metrics = result_.history;
    checkpoint.progress =
        io::ProgressRecord{options_.stage, round(), step_, result_.samples, options_.seed, {{"loss", loss_}}};
    return checkpoint;
  });
}

void Rounds::restore() {
  auto found = saved_.newest();
  if (!found) return;
  auto& [path, checkpoint] = *found;
  state_.copy_from(checkpoint.state);
  step_ = saved_step_ = checkpoint.progress->step;
  loss_ = checkpoint.progress->extra.at("loss");
  if (checkpoint.optimizer) restore_algorithm(std::move(checkpoint.optimizer->slots));
  result_.samples = checkpoint.progress->samples;
  result_.history = checkpoint.metrics;
  for (const auto& [name, points] : result_.history) result_.metrics[name] = points.back().value;
  log::info(fmt::format("{}: continuing after {} {} of {} ({})", options_.stage, step_name_, step_,
                        options_.rounds * steps_per_round_, path.filename().string()));
}

std::vector<int> select_clients(int clients, double fraction, std::uint64_t seed, std::int64_t round) {
  const auto count = std::clamp(static_cast<std::int64_t>(std::ceil(fraction * clients)), std::int64_t{1},
                                std::int64_t{clients});
  const auto order = Rng(seed, "select clients", 0, static_cast<std::uint64_t>(round)).permutation(clients);
  std::vector<int> chosen(order.begin(), order.begin() + count);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace impart::share

#include "impart/share/federate/federate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "impart/comm/shard_sums.hpp"
#include "impart/core/clock.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "impart/core/rng.hpp"
#include "impart/share/ensemble/model.hpp"
#include "impart/train/saved_run.hpp"
#include "share/combine/model_weights.hpp"

namespace impart::share {

namespace {

/// Deals `clients` over `slots` so that the slots have about equal numbers of samples: the largest first,
/// each to the slot with least so far. A slot is worked by one rank; the deal does not depend on the number
/// of ranks.
std::vector<std::vector<int>> deal(const std::vector<int>& clients, const std::vector<data::DatasetPtr>& data,
                                   int slots) {
  const auto samples = [&](int client) { return data[static_cast<std::size_t>(client)]->size(); };
  auto order = clients;
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return samples(a) > samples(b); });
  std::vector<std::vector<int>> result(static_cast<std::size_t>(slots));
  std::vector<std::int64_t> load(static_cast<std::size_t>(slots));
  for (const int client : order) {
    const auto least = std::min_element(load.begin(), load.end()) - load.begin();
    load[static_cast<std::size_t>(least)] += samples(client);
    result[static_cast<std::size_t>(least)].push_back(client);
  }
  return result;
}

class Federation {
 public:
  Federation(const comm::Comm& comm, const FederateOptions& options, const FederateTask& task,
             StateDict& state)
      : comm_(comm),
        options_(options),
        task_(task),
        state_(state),
        self_(comm::Comm::self()),
        sums_(comm, options.shards, options.threads),
        saved_(comm, {.data = comm.size()}, task.spec, task.state_directory, task.state_key),
        progress_(comm.is_root() ? options.progress : ProgressMode::kNone, options.stage, "samples",
                  samples_of_rounds()),
        steps_per_round_(options.order == VisitOrder::kCyclic
                             ? static_cast<std::int64_t>(clients_of_round(0).size())
                             : 1) {}

  train::TrainResult execute() {
    comm::agree(comm_, "continuing from " + task_.state_directory.string(), [&] { restore(); });
    const auto total = options_.rounds * steps_per_round_;
    progress_.update(result_.samples, "");
    while (step_ < total) {
      const bool whole = options_.order == VisitOrder::kCyclic ? visit() : average_clients();
      if (whole && step_ % steps_per_round_ == 0) end_round();
      if (whole)
        progress_.update(result_.samples, fmt::format("{}, loss {:.4f}", what_of(step_ - 1), last_loss_));
      if (!whole || (step_ < total && stop_wanted())) {
        save();
        result_.end = train::TrainEnd::kStopped;
        break;
      }
      if (step_ < total && step_ % steps_per_round_ == 0) save();
    }
    saved_.finish();
    result_.epochs = round();
    result_.steps = result_.kept_step = step_;
    return std::move(result_);
  }

 private:
  [[nodiscard]] std::int64_t round() const { return step_ / steps_per_round_; }

  [[nodiscard]] std::vector<int> clients_of_round(std::int64_t round) const {
    return select_clients(static_cast<int>(task_.clients.size()), options_.fraction_fit, options_.seed,
                          round);
  }

  [[nodiscard]] std::int64_t samples_of(int client) const {
    return task_.clients[static_cast<std::size_t>(client)]->size();
  }

  /// That train in all rounds, each as often as it does.
  [[nodiscard]] std::int64_t samples_of_rounds() const {
    std::int64_t samples = 0;
    for (int round = 0; round < options_.rounds; ++round) {
      for (const int client : clients_of_round(round)) samples += samples_of(client);
    }
    return samples * options_.local.epochs;
  }

  /// "round 1/2", or of a visit "round 1/2, part 3 of 8".
  [[nodiscard]] std::string what_of(std::int64_t step) const {
    auto text = fmt::format("round {}/{}", step / steps_per_round_ + 1, options_.rounds);
    if (options_.order == VisitOrder::kCyclic)
      text += fmt::format(", part {} of {}", step % steps_per_round_ + 1, steps_per_round_);
    return text;
  }

  /// Some ranks may have been told to stop, and others not.
  [[nodiscard]] bool stop_wanted() const {
    std::int32_t wanted = task_.stop != nullptr && task_.stop->load() ? 1 : 0;
    comm_.max_in_place(std::span(&wanted, 1), "stop");
    return wanted != 0;
  }

  /// kTogether: a round, but for its end. False when a stop came before all was done; then nothing has
  /// changed.
  bool average_clients() {
    const auto clients = clients_of_round(round());
    std::int64_t samples = 0;
    for (const int client : clients) samples += samples_of(client);
    const auto slots = deal(clients, task_.clients, options_.shards);

    const auto start = Clock::now();
    const double exchanged = sums_.exchange_seconds();
    std::vector<double> sum(state_.arena().size());
    const auto [loss, stopped] = sum_slots(slots, samples, sum);
    const double exchange = sums_.exchange_seconds() - exchanged;
    result_.seconds.communication += exchange;
    result_.seconds.compute += seconds_since(start) - exchange;
    if (stopped) return false;

    std::ranges::transform(sum, state_.arena().begin(), [](double x) { return static_cast<float>(x); });
    loss_ = loss;
    last_loss_ = loss / static_cast<double>(samples);
    result_.samples += samples * options_.local.epochs;
    ++step_;
    return true;
  }

  /// kCyclic: the next client's turn. False when a stop came before it was over; then nothing has changed.
  bool visit() {
    const auto clients = clients_of_round(round());
    const int client = clients[static_cast<std::size_t>(step_ % steps_per_round_)];
    const int owner = rank_of_client(client, static_cast<int>(task_.clients.size()), comm_.size());
    const auto start = Clock::now();
    double trained_for = 0;
    std::array<double, 2> told{};  // whether it was over, and the loss
    comm::work_alone(comm_, owner, options_.stage, [&] {
      auto local = state_.clone();
      const auto trained = train_client(client, local);
      trained_for = seconds_since(start);
      result_.seconds.input += trained.seconds.input;
      result_.seconds.forward += trained.seconds.forward;
      result_.seconds.backward += trained.seconds.backward;
      result_.seconds.update += trained.seconds.update;
      result_.seconds.compute += trained_for - trained.seconds.input;
      if (trained.end == train::TrainEnd::kStopped) return;
      state_.copy_from(local);
      told = {1, trained.metrics.at("train.loss")};
    });
    comm_.broadcast<double>(told, owner, "news of a visit");
    const auto [over, loss] = told;
    if (over != 0) {
      comm_.broadcast(state_.arena(), owner, "weights");
      loss_ += static_cast<double>(samples_of(client)) * loss;
      last_loss_ = loss;
      result_.samples += samples_of(client) * options_.local.epochs;
      ++step_;
    }
    result_.seconds.communication += seconds_since(start) - trained_for;
    return over != 0;
  }

  void end_round() {
    std::int64_t samples = 0;
    for (const int client : clients_of_round(round() - 1)) samples += samples_of(client);
    event("train.loss", loss_ / static_cast<double>(samples));
    loss_ = 0;
    if (task_.validation != nullptr) {
      Model model = single(task_.spec, state_.clone());
      for (const auto& [name, value] : evaluate(comm_, model, task_.validation, options_.threads)) {
        event("validation." + name, value);
      }
    }
  }

  struct Fared {
    double loss = 0;  // of all clients, weighted by samples
    bool stopped = false;
  };

  /// Adds the models of all clients, each times n_k / n, to `sum`: over slots in the fixed tree of the
  /// gradients.
  Fared sum_slots(const std::vector<std::vector<int>>& slots, std::int64_t samples, std::span<double> sum) {
    const auto size = sum.size();
    std::vector<double> message(size + 2);  // and the loss, and whether somebody was stopped
    // A client that fails on one rank fails the stage on all.
    sums_.sum(options_.stage.c_str(), message, [&](int slot, std::span<double> part) {
      for (const int client : slots[static_cast<std::size_t>(slot)]) {
        auto local = state_.clone();
        const auto trained = train_client(client, local);
        if (trained.end == train::TrainEnd::kStopped) {
          part[size + 1] = 1;
          continue;
        }
        const auto n = static_cast<double>(samples_of(client));
        add_weighted(part.first(size), local.arena(), n / static_cast<double>(samples));
        part[size] += n * trained.metrics.at("train.loss");
      }
    });
    std::copy_n(message.begin(), size, sum.begin());
    return {message[size], message[size + 1] > 0};
  }

  train::TrainResult train_client(int client, StateDict& local) const {
    const auto& data = task_.clients[static_cast<std::size_t>(client)];
    auto options = options_.local;
    options.stage = fmt::format("round {}: client {}", round() + 1, client);
    options.progress = ProgressMode::kNone;
    if (options_.order == VisitOrder::kCyclic) {
      options.stage = what_of(step_);
      if (comm_.size() > 1) options.stage += fmt::format(" on rank {}", comm_.rank());
      options.shards = options_.shards;
      options.threads = options_.threads;
      options.progress = options_.progress;  // a visit may take long, and nobody else speaks meanwhile
    } else {                                 // one thread: there is nothing to be independent of
      options.shards = 1;
      options.threads = 1;
      options.batch_size = std::min(options.batch_size, data->size());
    }
    options.mesh = {};
    options.seed =
        Rng(options_.seed, "client", static_cast<std::uint64_t>(client), static_cast<std::uint64_t>(round()))
            .next64();
    options.schedule_epochs = options_.rounds * options.epochs;
    options.schedule_start = static_cast<int>(round()) * options.epochs;
    return train::train(self_, options, {task_.spec, task_.objective, data, nullptr, {}, task_.stop, {}, {}},
                        local);
  }

  void event(const std::string& name, double value) {
    result_.history[name].push_back({step_, value});
    result_.metrics[name] = value;
    if (task_.on_event) task_.on_event({round(), step_, name, value});
  }

  /// Unless it is saved.
  void save() {
    if (saved_step_ == step_) return;
    saved_step_ = step_;
    result_.seconds.checkpoint += saved_.save([&] {
      auto checkpoint = saved_.snapshot(state_.clone());
      checkpoint.metrics = result_.history;
      checkpoint.progress = io::ProgressRecord{options_.stage,  round(),       step_,
                                               result_.samples, options_.seed, {{"loss", loss_}}};
      return checkpoint;
    });
  }

  void restore() {
    auto found = saved_.newest();
    if (!found) return;
    auto& [path, checkpoint] = *found;
    state_.copy_from(checkpoint.state);
    step_ = saved_step_ = checkpoint.progress->step;
    loss_ = checkpoint.progress->extra.at("loss");
    result_.samples = checkpoint.progress->samples;
    result_.history = checkpoint.metrics;
    for (const auto& [name, points] : result_.history) result_.metrics[name] = points.back().value;
    log::info(fmt::format("{}: continuing after {} {} of {} ({})", options_.stage,
                          options_.order == VisitOrder::kCyclic ? "visit" : "round", step_,
                          options_.rounds * steps_per_round_, path.filename().string()));
  }

  const comm::Comm& comm_;
  const FederateOptions& options_;
  const FederateTask& task_;
  StateDict& state_;
  comm::Comm self_;
  comm::ShardSums sums_;
  train::SavedRun saved_;
  ProgressLine progress_;
  std::int64_t steps_per_round_;  // a step is what can be continued after: a round, or a client's visit
  std::int64_t step_ = 0;
  std::int64_t saved_step_ = 0;  // at the beginning there is nothing to save
  double loss_ = 0;              // of the round's clients so far, each as often as it has samples
  double last_loss_ = 0;         // of the last step
  train::TrainResult result_;
};

}  // namespace

std::vector<int> select_clients(int clients, double fraction, std::uint64_t seed, std::int64_t round) {
  const auto count = std::clamp(static_cast<std::int64_t>(std::ceil(fraction * clients)), std::int64_t{1},
                                std::int64_t{clients});
  const auto order = Rng(seed, "select clients", 0, static_cast<std::uint64_t>(round)).permutation(clients);
  std::vector<int> chosen(order.begin(), order.begin() + count);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

int rank_of_client(int client, int clients, int ranks) {
  return static_cast<int>(static_cast<std::int64_t>(client) * ranks / clients);
}

train::TrainResult federate(const comm::Comm& comm, const FederateOptions& options, const FederateTask& task,
                            StateDict& state) {
  return Federation(comm, options, task, state).execute();
}

}  // namespace impart::share

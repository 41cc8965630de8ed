#include "impart/share/federate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "impart/comm/shard_sums.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "impart/core/rng.hpp"
#include "impart/share/combine.hpp"
#include "impart/share/model.hpp"
#include "impart/train/saved_run.hpp"

namespace impart::share {

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

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
        progress_(comm.is_root() ? options.progress : ProgressMode::kNone, options.stage, "rounds",
                  options.rounds) {}

  train::TrainResult execute() {
    comm::agree(comm_, "continuing from " + task_.state_directory.string(), [&] { restore(); });
    while (round_ < options_.rounds) {
      if (!run_round()) {
        result_.end = train::TrainEnd::kStopped;
        break;
      }
      if (round_ < options_.rounds) save();
    }
    saved_.finish();
    result_.epochs = round_;
    result_.steps = round_;
    return std::move(result_);
  }

 private:
  /// False when a stop came before the round was complete; then nothing has changed.
  bool run_round() {
    const auto clients =
        select_clients(static_cast<int>(task_.clients.size()), options_.fraction_fit, options_.seed, round_);
    std::int64_t samples = 0;
    for (const int client : clients) samples += task_.clients[static_cast<std::size_t>(client)]->size();
    const auto slots = deal(clients, task_.clients, options_.shards);

    const auto start = Clock::now();
    const double exchanged = sums_.exchange_seconds();
    WeightedSum sum(state_.layout_ptr());
    const auto [loss, stopped] = sum_slots(slots, samples, sum);
    const double exchange = sums_.exchange_seconds() - exchanged;
    result_.seconds.communication += exchange;
    result_.seconds.compute += since(start) - exchange;
    if (stopped) return false;

    state_ = sum.result();
    ++round_;
    result_.samples += samples * options_.local.epochs;
    event("train.loss", loss / static_cast<double>(samples));
    if (task_.validation != nullptr) {
      Model model = single(task_.spec, state_.clone());
      for (const auto& [name, value] : evaluate(comm_, model, task_.validation, options_.threads)) {
        event("validation." + name, value);
      }
    }
    progress_.update(round_, fmt::format("round {}/{}", round_, options_.rounds));
    return true;
  }

  struct Fared {
    double loss = 0;  // of all clients, weighted by samples
    bool stopped = false;
  };

  /// Adds the models of all clients, each times n_k / n, to `sum`: over slots in the fixed tree of the
  /// gradients.
  Fared sum_slots(const std::vector<std::vector<int>>& slots, std::int64_t samples, WeightedSum& sum) {
    const auto size = sum.sums().size();
    std::vector<double> message(size + 2);  // and the loss, and whether somebody was stopped
    // A client that fails on one rank fails the stage on all.
    sums_.sum(options_.stage.c_str(), message, [&](int slot, std::span<double> part) {
      WeightedSum models(state_.layout_ptr());
      for (const int client : slots[static_cast<std::size_t>(slot)]) {
        if (!train_client(client, samples, models, part[size])) part[size + 1] = 1;
      }
      std::copy(models.sums().begin(), models.sums().end(), part.begin());
    });
    std::copy_n(message.begin(), size, sum.sums().begin());
    return {message[size], message[size + 1] > 0};
  }

  /// False when it was stopped.
  bool train_client(int client, std::int64_t samples, WeightedSum& models, double& loss) {
    const auto& data = task_.clients[static_cast<std::size_t>(client)];
    auto options = options_.local;
    options.stage = fmt::format("round {}: client {}", round_ + 1, client);
    options.shards = 1;  // one rank, one thread: there is nothing to be independent of
    options.threads = 1;
    options.seed =
        Rng(options_.seed, "client", static_cast<std::uint64_t>(client), static_cast<std::uint64_t>(round_))
            .next64();
    options.batch_size = std::min(options.batch_size, data->size());
    options.progress = ProgressMode::kNone;

    auto local = state_.clone();
    const auto result = train::train(
        self_, options, {task_.spec, task_.objective, data, nullptr, {}, task_.stop, {}, {}}, local);
    if (result.end == train::TrainEnd::kStopped) return false;
    const auto n = static_cast<double>(data->size());
    models.add(local, n / static_cast<double>(samples));
    loss += n * result.metrics.at("train.loss");
    return true;
  }

  void event(const std::string& name, double value) {
    result_.history[name].push_back({round_, value});
    result_.metrics[name] = value;
    if (task_.on_event) task_.on_event({round_, round_, name, value});
  }

  void save() {
    result_.seconds.checkpoint += saved_.save([&] {
      auto checkpoint = saved_.snapshot(state_.clone());
      checkpoint.metrics = result_.history;
      checkpoint.progress =
          io::ProgressRecord{options_.stage, round_, round_, result_.samples, options_.seed, {}};
      return checkpoint;
    });
  }

  void restore() {
    auto found = saved_.newest();
    if (!found) return;
    auto& [path, checkpoint] = *found;
    state_.copy_from(checkpoint.state);
    round_ = checkpoint.progress->step;
    result_.samples = checkpoint.progress->samples;
    result_.history = checkpoint.metrics;
    for (const auto& [name, points] : result_.history) result_.metrics[name] = points.back().value;
    log::info(fmt::format("{}: continuing after round {} of {} ({})", options_.stage, round_, options_.rounds,
                          path.filename().string()));
  }

  const comm::Comm& comm_;
  const FederateOptions& options_;
  const FederateTask& task_;
  StateDict& state_;
  comm::Comm self_;
  comm::ShardSums sums_;
  train::SavedRun saved_;
  ProgressLine progress_;
  std::int64_t round_ = 0;
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

train::TrainResult federate(const comm::Comm& comm, const FederateOptions& options, const FederateTask& task,
                            StateDict& state) {
  return Federation(comm, options, task, state).execute();
}

}  // namespace impart::share

// Clients that train side by side, each from the round's weights.
#include "impart/share/federate/federate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "impart/comm/shard_sums.hpp"
#include "impart/core/clock.hpp"
#include "impart/core/error.hpp"
#include "share/federate/rounds.hpp"

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

/// The parameters of a layout, at the same places.
StateLayoutPtr parameters_of(const StateLayout& layout) {
  std::vector<StateEntry> entries;
  for (const auto& entry : layout.entries()) {
    if (entry.kind == StateKind::kParameter) entries.push_back(entry);
  }
  return std::make_shared<const StateLayout>(std::move(entries));
}

class SideBySide final : public Rounds {
 public:
  SideBySide(const comm::Comm& comm, const FederatedAlgorithm& algorithm, const FederateOptions& options,
             const FederateTask& task, StateDict& state)
      : Rounds(comm, options, task, state, 1, "round"),
        algorithm_(algorithm),
        sums_(comm, options.shards, options.threads),
        slot_layout_(parameters_of(state.layout())),
        server_slots_(new_slots(algorithm.server_slots().size())),
        client_slots_(task.clients.size()) {}

 protected:
  StepOutcome run_step() override {
    const auto clients = clients_of_round(round());
    const auto samples = samples_of(clients);
    const auto start = Clock::now();
    const double exchanged = sums_.exchange_seconds();
    auto sums = sum_clients(clients, samples);
    const double exchange = sums_.exchange_seconds() - exchanged;
    seconds_.communication += exchange;
    seconds_.compute += seconds_since(start) - exchange;
    if (sums.stopped) return {};

    std::vector<std::span<const double>> parts;
    for (const auto& part : parts_of(sums.values)) parts.push_back(part);
    algorithm_.aggregate({state_, server_slots_}, parts);
    for (const int client : clients) {
      auto& kept = client_slots_[static_cast<std::size_t>(client)];
      kept.trained = true;
      if (!kept.after.empty()) kept.slots = std::move(kept.after);
    }
    return {true, sums.loss, samples};
  }

  std::optional<io::OptimizerRecord> algorithm_state() override;
  void restore_algorithm(std::vector<std::pair<std::string, StateDict>> slots) override;

 private:
  struct Sums {
    std::vector<double> values;  // those of the algorithm, one after the other
    double loss = 0;             // of all clients, weighted by samples
    bool stopped = false;
  };
  struct ClientSlots {
    bool trained = false;          // in some round, on whatever rank; before that, its slots are zero
    std::vector<StateDict> slots;  // of a client of this rank; empty until it has trained
    std::vector<StateDict> after;  // the same, if the round that is under way comes to its end
  };

  [[nodiscard]] std::vector<StateDict> new_slots(std::size_t count) const {
    std::vector<StateDict> slots;
    for (std::size_t i = 0; i < count; ++i) slots.emplace_back(slot_layout_);
    return slots;
  }

  /// The clients of each slot of the reduction. One that keeps something stays in its slot, and so on its rank,
  /// whoever else trains.
  [[nodiscard]] std::vector<std::vector<int>> deal_clients(const std::vector<int>& clients) const {
    if (algorithm_.client_slots().empty()) return deal(clients, task_.clients, options_.shards);
    std::vector<int> all(task_.clients.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int>(i);
    auto slots = deal(all, task_.clients, options_.shards);
    for (auto& slot : slots) {
      std::erase_if(slot, [&](int client) { return !std::ranges::binary_search(clients, client); });
    }
    return slots;
  }

  [[nodiscard]] std::vector<std::span<double>> parts_of(std::span<double> values) const {
    const auto size = state_.arena().size();
    std::vector<std::span<double>> parts;
    for (std::size_t i = 0; i < algorithm_.sums(); ++i) parts.push_back(values.subspan(i * size, size));
    return parts;
  }

  /// What all clients of the round give, over slots in the fixed tree of the gradients.
  Sums sum_clients(const std::vector<int>& clients, std::int64_t samples) {
    const auto slots = deal_clients(clients);
    const auto size = algorithm_.sums() * state_.arena().size();
    Sums sums;
    sums.values.resize(size + 2);  // and the loss, and whether somebody was stopped
    // A client that fails on one rank fails the stage on all.
    sums_.sum(options_.stage.c_str(), sums.values, [&](int slot, std::span<double> part) {
      for (const int client : slots[static_cast<std::size_t>(slot)]) {
        auto training = begin_training(client, samples, static_cast<int>(clients.size()));
        const auto trained = train_client(client, training.options, training.weights);
        if (trained.end == train::TrainEnd::kStopped) {
          part[size + 1] = 1;
          continue;
        }
        algorithm_.collect({state_, server_slots_}, training, trained, parts_of(part));
        part[size] += static_cast<double>(training.samples) * trained.metrics.at("train.loss");
      }
    });
    sums.loss = sums.values[size];
    sums.stopped = sums.values[size + 1] > 0;
    return sums;
  }

  ClientTraining begin_training(int client, std::int64_t round_samples, int round_clients) {
    ClientTraining training;
    training.client = client;
    training.samples = samples_of(client);
    training.round_samples = round_samples;
    training.round_clients = round_clients;
    training.clients = static_cast<int>(client_slots_.size());
    training.options = client_options(client);
    training.options.stage = fmt::format("round {}: client {}", round() + 1, client);
    training.options.shards = 1;  // and one thread: there is nothing to be independent of
    training.options.threads = 1;
    training.options.batch_size = std::min(training.options.batch_size, training.samples);
    training.weights = state_.clone();
    auto& kept = client_slots_[static_cast<std::size_t>(client)];
    kept.after = new_slots(algorithm_.client_slots().size());
    for (std::size_t i = 0; i < kept.slots.size(); ++i) kept.after[i].copy_from(kept.slots[i]);
    training.slots = kept.after;
    algorithm_.prepare({state_, server_slots_}, training);
    return training;
  }

  const FederatedAlgorithm& algorithm_;
  comm::ShardSums sums_;
  StateLayoutPtr slot_layout_;
  std::vector<StateDict> server_slots_;
  std::vector<ClientSlots> client_slots_;
};

std::string server_slot(std::string_view name) { return fmt::format("server.{}", name); }
std::string client_slot(std::size_t client, std::string_view name) {
  return fmt::format("client.{}.{}", client, name);
}

std::optional<io::OptimizerRecord> SideBySide::algorithm_state() {
  const auto server_names = algorithm_.server_slots();
  const auto client_names = algorithm_.client_slots();
  if (server_names.empty() && client_names.empty()) return std::nullopt;
  io::OptimizerRecord record{"federation", {}};
  for (std::size_t i = 0; i < server_names.size(); ++i)
    record.slots.emplace_back(server_slot(server_names[i]), server_slots_[i].clone());
  for (std::size_t client = 0; client < client_slots_.size(); ++client) {
    const auto& kept = client_slots_[client];
    if (!kept.trained || client_names.empty()) continue;
    int owner = kept.slots.empty() ? 0 : comm_.rank();
    comm_.max_in_place(std::span(&owner, 1), "who has a client's state");
    for (std::size_t i = 0; i < client_names.size(); ++i) {
      auto copy = kept.slots.empty() ? StateDict(slot_layout_) : kept.slots[i].clone();
      comm_.broadcast(copy.arena(), owner, "a client's state");
      if (comm_.is_root()) record.slots.emplace_back(client_slot(client, client_names[i]), std::move(copy));
    }
  }
  return record;
}

void SideBySide::restore_algorithm(std::vector<std::pair<std::string, StateDict>> slots) {
  const auto take = [&](const std::string& name, StateDict& to) {
    const auto found = std::ranges::find(slots, name, &std::pair<std::string, StateDict>::first);
    if (found == slots.end()) return false;
    if (const auto difference = slot_layout_->difference(found->second.layout()))
      throw Error("a saved state of another model").at(name).got(*difference);
    to.copy_from(found->second);
    return true;
  };
  const auto server_names = algorithm_.server_slots();
  for (std::size_t i = 0; i < server_names.size(); ++i) {
    if (!take(server_slot(server_names[i]), server_slots_[i]))
      throw Error("the saved state of the server is missing").at(server_slot(server_names[i]));
  }
  std::vector<int> all(task_.clients.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int>(i);
  const auto dealt = deal_clients(all);
  const auto mine = comm::shards_of_rank(comm_.rank(), comm_.size(), options_.shards);
  const auto client_names = algorithm_.client_slots();
  for (int slot = 0; slot < options_.shards; ++slot) {
    for (const int client : dealt[static_cast<std::size_t>(slot)]) {
      auto& kept = client_slots_[static_cast<std::size_t>(client)];
      auto saved = new_slots(client_names.size());
      for (std::size_t i = 0; i < saved.size(); ++i)
        kept.trained = take(client_slot(static_cast<std::size_t>(client), client_names[i]), saved[i]);
      if (kept.trained && slot >= mine.begin && slot < mine.end) kept.slots = std::move(saved);
    }
  }
}

}  // namespace

train::TrainResult federate(const comm::Comm& comm, const FederatedAlgorithm& algorithm,
                            const FederateOptions& options, const FederateTask& task, StateDict& state) {
  auto all = train::capabilities_of(options.local);
  all.push_back(algorithm.capabilities());
  if (const auto found = train::conflicts(all); !found.empty()) {
    throw Error(found[0].text, ErrorKind::kUsage).at(found[0].key).at(options.stage).collective();
  }
  return SideBySide(comm, algorithm, options, task, state).execute();
}

}  // namespace impart::share

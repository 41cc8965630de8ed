// FederatedAlgorithm: what a client trains with, and what the server makes of all that clients give.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "impart/core/registry.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/train/capabilities.hpp"
#include "impart/train/trainer.hpp"

namespace impart::share {

/// What the server keeps from round to round. Equal on all ranks.
struct ServerState {
  StateDict& weights;          ///< the model: parameters and buffers
  std::span<StateDict> slots;  ///< one for each of FederatedAlgorithm::server_slots
};

/// One client's training in a round. `options` and `weights` are the algorithm's to change before it begins.
struct ClientTraining {
  int client = 0;
  std::int64_t samples = 0;        ///< the client's
  std::int64_t round_samples = 0;  ///< those of all clients of the round
  int round_clients = 0;
  int clients = 0;  ///< all of them, whether they train or not
  train::TrainerOptions options;
  StateDict weights;           ///< the server's before, the client's own afterwards
  std::span<StateDict> slots;  ///< one for each of FederatedAlgorithm::client_slots
};

/// A federated algorithm with its settings. The frame (`federate`) chooses clients, trains them, sums over them,
/// saves and continues; an algorithm says only what is its own. It has no state beside the slots, which the
/// frame keeps: StateDicts of the model's parameters, zero at first, saved with the weights.
///
/// A client's slots stay on the rank that trains it. `prepare` and `collect` are called there, for several
/// clients at once in several threads; `aggregate` on all ranks, with equal sums.
class FederatedAlgorithm {
 public:
  virtual ~FederatedAlgorithm() = default;

  /// What it uses and rules out in the clients' training.
  [[nodiscard]] virtual train::Capabilities capabilities() const { return {.key = "algorithm"}; }
  [[nodiscard]] virtual std::vector<std::string_view> server_slots() const { return {}; }
  [[nodiscard]] virtual std::vector<std::string_view> client_slots() const { return {}; }
  /// How many sums over the clients it needs, each as large as the model.
  [[nodiscard]] virtual std::size_t sums() const { return 1; }

  /// The client's step begins: changes what it trains with.
  virtual void prepare(const ServerState& server, ClientTraining& training) const = 0;
  /// The client's step is over: adds what it gives to the sums, and changes its slots.
  virtual void collect(const ServerState& server, ClientTraining& training, const train::TrainResult& result,
                       std::span<const std::span<double>> sums) const = 0;
  /// The server's step. `sums`: over all clients of the round, in double precision and in one order, whatever
  /// the number of ranks.
  virtual void aggregate(ServerState server, std::span<const std::span<const double>> sums) const = 0;
};

/// All of them, by name. Each reads its own settings.
const Registry<std::unique_ptr<FederatedAlgorithm>>& federated_algorithms();

}  // namespace impart::share

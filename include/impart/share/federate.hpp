// Federated averaging: clients train on data of their own, and only their models are combined.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/data/dataset.hpp"
#include "impart/train/trainer.hpp"

namespace impart::share {

/// McMahan et al. 2017, "Communication-efficient learning of deep networks from decentralized data",
/// algorithm 1. Names as in Flower.
struct FederateOptions {
  std::string stage;
  int rounds = 1;
  double fraction_fit = 1.0;  ///< part of the clients that trains in a round, in (0, 1]
  int shards = 8;  ///< slots of the reduction, as in training: the result does not depend on the ranks
  int threads = 1;
  std::uint64_t seed = 0;
  train::TrainerOptions local;  ///< epochs: local epochs; its stage, shards, seed and threads are set here
  ProgressMode progress = ProgressMode::kNone;
};

struct FederateTask {
  const nn::ModelSpec& spec;
  const nn::Objective& objective;
  std::vector<data::DatasetPtr> clients;
  data::DatasetPtr validation;                             ///< may be null
  std::function<void(const train::TrainEvent&)> on_event;  ///< may be empty; `epoch` is the round
  const std::atomic<bool>* stop = nullptr;
  std::filesystem::path state_directory;  ///< as train::TrainTask
  std::string state_key;
};

/// Clients that train in `round`: ceil(fraction * clients) of them, in ascending order.
std::vector<int> select_clients(int clients, double fraction, std::uint64_t seed, std::int64_t round);

/// Runs the rounds on `state` in place. A client trains on one rank, alone; which one does not change its
/// result. Their models are averaged with weights n_k / n. Collective. Stops between the steps of a client:
/// the state of the last complete round is on disk. `steps` of the result counts rounds.
train::TrainResult federate(const comm::Comm& comm, const FederateOptions& options, const FederateTask& task,
                            StateDict& state);

}  // namespace impart::share

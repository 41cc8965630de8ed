// Federations: clients train on data of their own, and only their models travel.
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

/// In which order the clients of a round train.
enum class VisitOrder : std::uint8_t {
  /// All from the round's weights; their models are averaged with weights n_k / n (McMahan et al. 2017,
  /// "Communication-efficient learning of deep networks from decentralized data", algorithm 1). Each on one
  /// thread; the clients are dealt over the ranks.
  kTogether,
  /// One after another, each from the weights that the one before has left: cyclical weight transfer (Chang
  /// et al. 2018, "Distributed deep learning networks among institutions for medical imaging"). Each on the
  /// rank that rank_of_client says, with all its threads, and on no other: where its data are. Meanwhile the
  /// other ranks sleep.
  kCyclic,
};

/// Names as in Flower. A client's optimizer starts afresh each time, as in both papers; the learning rate's
/// schedule goes on over the rounds, whose epochs are those that a client makes in all of them.
struct FederateOptions {
  std::string stage;
  VisitOrder order = VisitOrder::kTogether;
  int rounds = 1;
  double fraction_fit = 1.0;  ///< part of the clients that trains in a round, in (0, 1]
  int shards = 8;  ///< slots of the reduction, as in training: the result does not depend on the ranks
  int threads = 1;
  std::uint64_t seed = 0;
  train::TrainerOptions
      local;  ///< epochs: of a client in a round; its stage, shards, seed and threads are set here
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

/// The rank on which a client of kCyclic trains. With as many clients as shards: that of
/// comm::shards_of_rank. Clients may be fewer than ranks.
int rank_of_client(int client, int clients, int ranks);

/// Runs the rounds on `state` in place. A client trains on one rank, alone; which one does not change its
/// result. Collective; a client that fails fails on all ranks. Stops between the steps of a client: the state
/// of the last complete round, or of kCyclic's last complete visit, is on disk. `steps` of the result counts
/// rounds, or visits.
train::TrainResult federate(const comm::Comm& comm, const FederateOptions& options, const FederateTask& task,
                            StateDict& state);

}  // namespace impart::share

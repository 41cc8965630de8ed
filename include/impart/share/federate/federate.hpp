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
#include "impart/share/federate/algorithm.hpp"
#include "impart/train/trainer.hpp"

namespace impart::share {

/// Names as in Flower. A client's optimizer starts afresh each time; the learning rate's schedule goes on over
/// the rounds, whose epochs are those that a client makes in all of them.
struct FederateOptions {
  std::string stage;
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

/// Runs the rounds on `state` in place: in each, the clients train side by side, each on one thread of one
/// rank, and `algorithm` makes the next round's weights of what they give. The result does not depend on the
/// number of ranks. Collective; a client that fails fails on all ranks.
///
/// Stops between the steps of a client: the state of the last complete round, with what the algorithm keeps for
/// server and clients, is on disk, and the same call continues there, on any number of ranks. `steps` of the
/// result counts rounds. Throws Error; usage, when the clients' training is not what the algorithm can take.
train::TrainResult federate(const comm::Comm& comm, const FederatedAlgorithm& algorithm,
                            const FederateOptions& options, const FederateTask& task, StateDict& state);

/// The rank on which a client of `cyclic_transfer` trains. With as many clients as shards: that of
/// comm::shards_of_rank. Clients may be fewer than ranks.
int rank_of_client(int client, int clients, int ranks);

/// Cyclical weight transfer (Chang et al. 2018, "Distributed deep learning networks among institutions for
/// medical imaging"): the clients of a round train one after another, each from the weights that the one
/// before has left. Each on the rank that rank_of_client says, with all its threads, and on no other: where its
/// data are. Meanwhile the other ranks sleep. As `federate` in all else; stops keep the last complete visit,
/// and `steps` counts visits.
train::TrainResult cyclic_transfer(const comm::Comm& comm, const FederateOptions& options,
                                   const FederateTask& task, StateDict& state);

}  // namespace impart::share

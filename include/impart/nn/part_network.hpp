// PartNetwork: a small network that is part of an objective, for batches of any size.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "impart/core/state_dict.hpp"
#include "impart/nn/network.hpp"

namespace impart::nn {

/// The tensors of `spec` by their full names, as ObjectiveNeeds::parts wants them. Layers are named so that no
/// model has them: "hint.projection". Throws as check_model does.
std::vector<ParameterSpec> part_tensors(const ModelSpec& spec);

/// One Network for each size of batch that has come up. For one thread, as they are.
class PartNetwork {
 public:
  PartNetwork(ModelSpec spec, NetworkOptions options)
      : spec_(std::move(spec)), options_(std::move(options)) {}

  /// Values have changed. `state` has at least the network's tensors, and outlives the passes that follow.
  void load(const StateDict& state) {
    state_ = &state;
    ++round_;
  }
  /// The network for `batch` samples, with the values that were loaded last. REQUIRES: some were.
  Network& of(std::int64_t batch);

 private:
  struct Sized {
    Network network;
    std::int64_t loaded = -1;  // the round whose values it has
  };

  ModelSpec spec_;
  NetworkOptions options_;
  std::map<std::int64_t, Sized> networks_;
  const StateDict* state_ = nullptr;
  std::int64_t round_ = 0;
};

}  // namespace impart::nn

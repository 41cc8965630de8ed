#include "impart/nn/part_network.hpp"

namespace impart::nn {

Network& PartNetwork::of(std::int64_t batch) {
  auto it = networks_.find(batch);
  if (it == networks_.end()) it = networks_.emplace(batch, Sized{Network(spec_, batch, options_)}).first;
  auto& [network, loaded] = it->second;
  if (loaded != round_) {
    network.load(*state_);
    loaded = round_;
  }
  return network;
}

}  // namespace impart::nn

// ShardLosses: what an objective makes of the shards that a network has computed in one pass.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "impart/core/aligned.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/data/batch_loader.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/objective.hpp"

namespace impart::train {

struct ShardLoss {
  double loss = 0;    ///< the sum over rows
  double weight = 0;  ///< Objective::weight
  double labels = 0;  ///< of the first stream
};

/// `count` neighbouring shards of a batch, from `first` on, which a network has computed at once: all of the
/// same size, with the same number of samples of each stream.
struct ComputedShards {
  const data::Batch& batch;
  std::size_t first = 0;
  std::size_t count = 1;
  nn::Network& network;            ///< after its forward pass
  nn::Pass pass;                   ///< of that
  std::span<const float> outputs;  ///< (count, samples, classes) or with rows of classes
};

/// For one thread.
class ShardLosses {
 public:
  /// Borrows `objective`. `classes`: of the network's outputs.
  ShardLosses(const nn::Objective& objective, std::int64_t classes);

  /// Values have changed, as ObjectiveWorker::load.
  void load(const StateDict& state);
  /// Each shard's loss into `losses`, and the gradient of their sum, times `scale`, by the outputs into
  /// `gradient`, by tapped layers into the network, and by the objective's parts into `gradients`, where they
  /// lie as training_layout lays them.
  void evaluate(const ComputedShards& shards, float scale, std::span<float> gradient, StateDict& gradients,
                std::span<ShardLoss> losses);

 private:
  void look_at(const ComputedShards& shards, std::span<float> gradient);
  double by_worker(const ComputedShards& shards, std::size_t i, float scale, std::span<float> gradient);
  void put_part_gradients(StateDict& gradients);

  const nn::Objective& objective_;
  std::int64_t classes_;
  std::unique_ptr<nn::ObjectiveWorker> worker_;  // null: the objective does it by itself
  std::size_t taps_ = 0;
  StateLayoutPtr parts_;               // null: there are none
  std::vector<float> part_gradients_;  // of each shard
  std::vector<nn::StreamView> streams_;
  std::vector<nn::Tapped> tapped_;  // of each stream, of each tap
};

}  // namespace impart::train

// BatchLoader: this rank's part of each global batch, prepared one step ahead in a thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "impart/comm/shards.hpp"
#include "impart/core/tensor.hpp"
#include "impart/data/augment.hpp"
#include "impart/data/dataset.hpp"
#include "impart/data/sampler.hpp"

namespace impart::data {

/// The samples of one shard: views that stay valid as long as their Batch.
struct ShardBatch {
  std::int64_t size = 0;                      ///< samples; 0 in the tail of an epoch, or of a small batch
  std::span<const float> inputs;              ///< (size, sample shape)
  std::span<const std::int32_t> labels;       ///< (size, labels per sample)
  std::span<const std::uint64_t> sample_ids;  ///< (size)
  std::span<const std::uint64_t> rows;        ///< (size), positions in the dataset
  /// (size), where augmentation mixes samples, and else empty: the target is lambda *
  /// one_hot(labels) + (1 - lambda) * one_hot(other_labels).
  std::span<const std::int32_t> other_labels = {};
  std::span<const float> lambda = {};
};

/// One step's samples of one rank. The shards' arrays lie one behind another in memory, so that neighbouring
/// shards can be taken as one array.
struct Batch {
  std::int64_t step = 0;
  std::int64_t global_size = 0;    ///< samples of all ranks together; 0 is a batch, too
  std::vector<ShardBatch> shards;  ///< of this rank, in the order of the shards
  /// What sums over the batch are divided by, where its size is a matter of chance (SamplerTraits::varying);
  /// 0: by `global_size`.
  std::int64_t expected_size = 0;

  [[nodiscard]] std::int64_t divisor() const noexcept {
    return expected_size > 0 ? expected_size : global_size;
  }
};

struct LoaderOptions {
  std::int64_t batch_size = 0;  ///< global; a multiple of `shards`
  int shards = 1;
  comm::ShardRange range;  ///< the shards of this rank
  std::uint64_t seed = 0;
  SamplerPtr sampler = {};                    ///< which samples make a step; null: kDefaultSampler
  std::vector<AugmentationPtr> augment = {};  ///< of every sample; empty: samples as they are
};

/// Endless. Shards are filled in order, so that in a batch that is not full, as the last of an epoch, all but
/// one are full or empty; a batch of more than `batch_size` samples is cut into equal shards. Holds two
/// batches: one in use, one in the making.
class BatchLoader {
 public:
  /// Starts at global step `first_step`, as if it had served the steps before. Throws as Augmenter and
  /// Sampler::check do.
  BatchLoader(DatasetPtr dataset, LoaderOptions options, std::int64_t first_step = 0);
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;
  ~BatchLoader();

  /// The next batch; valid until the next call. Throws what the dataset threw.
  const Batch& next();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace impart::data

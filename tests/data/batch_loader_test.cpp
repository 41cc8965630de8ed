#include "impart/data/batch_loader.hpp"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "impart/core/error.hpp"
#include "memory_source.hpp"

namespace impart::data {
namespace {

using testing_support::made_up_dataset;

constexpr int kShards = 4;

LoaderOptions options_of(int rank, int ranks, std::int64_t batch) {
  return {batch, kShards, comm::shards_of_rank(rank, ranks, kShards), 7};
}

TEST(BatchLoader, EverySampleOnceAnEpochOverAllRanks) {
  const auto world = comm::Comm::world();
  constexpr std::int64_t kSamples = 37;  // 16 + 16 + 5: the last batch fills one shard and a part of another
  const auto dataset = made_up_dataset(world, kSamples, Shape{3}, 5);
  BatchLoader loader(dataset, options_of(world.rank(), world.size(), 16));
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::vector<std::int64_t> seen(kSamples);
    for (std::int64_t s = 0; s < steps_per_epoch(kSamples, 16); ++s) {
      const auto& batch = loader.next();
      EXPECT_EQ(batch.step, epoch * 3 + s);
      EXPECT_EQ(batch.global_size, s == 2 ? 5 : 16);
      ASSERT_EQ(batch.shards.size(), static_cast<std::size_t>(kShards / world.size()));
      for (const auto& shard : batch.shards) {
        EXPECT_EQ(static_cast<std::size_t>(shard.size), shard.rows.size());
        for (const auto row : shard.rows) ++seen[row];
      }
    }
    world.sum_in_place(std::span(seen), "seen");
    EXPECT_EQ(seen, std::vector<std::int64_t>(kSamples, 1));
  }
}

TEST(BatchLoader, ShardsAreTheSameWhateverTheRanks) {
  const auto world = comm::Comm::world();
  const auto dataset = made_up_dataset(world, 37, Shape{3}, 5);
  BatchLoader mine(dataset, options_of(world.rank(), world.size(), 8));
  BatchLoader all(dataset, options_of(0, 1, 8));
  const auto range = comm::shards_of_rank(world.rank(), world.size(), kShards);
  for (int step = 0; step < 12; ++step) {
    const auto& part = mine.next();
    const auto& whole = all.next();
    for (int shard = range.begin; shard < range.end; ++shard) {
      const auto& a = part.shards[static_cast<std::size_t>(shard - range.begin)];
      const auto& b = whole.shards[static_cast<std::size_t>(shard)];
      EXPECT_TRUE(std::equal(a.rows.begin(), a.rows.end(), b.rows.begin(), b.rows.end()));
      EXPECT_TRUE(std::equal(a.inputs.begin(), a.inputs.end(), b.inputs.begin(), b.inputs.end()));
      EXPECT_TRUE(std::equal(a.labels.begin(), a.labels.end(), b.labels.begin(), b.labels.end()));
    }
  }
}

TEST(BatchLoader, StartsInTheMiddleAsIfItHadServedTheStepsBefore) {
  const auto world = comm::Comm::world();
  const auto dataset = made_up_dataset(world, 37, Shape{3}, 5);
  BatchLoader whole(dataset, options_of(0, 1, 8));
  for (int step = 0; step < 8; ++step) whole.next();
  BatchLoader later(dataset, options_of(0, 1, 8), 8);
  for (int step = 8; step < 14; ++step) {
    const auto& a = whole.next();
    const auto& b = later.next();
    EXPECT_EQ(a.step, b.step);
    for (std::size_t shard = 0; shard < kShards; ++shard) {
      EXPECT_TRUE(std::equal(a.shards[shard].rows.begin(), a.shards[shard].rows.end(),
                             b.shards[shard].rows.begin(), b.shards[shard].rows.end()));
    }
  }
}

TEST(BatchLoader, SequencesBringAllTheirLabels) {
  const auto dataset = testing_support::made_up_sequences(comm::Comm::world(), 13, 5, 7);
  BatchLoader loader(dataset, options_of(0, 1, 8));
  std::vector<std::int32_t> labels(5);
  for (int step = 0; step < 4; ++step) {
    for (const auto& shard : loader.next().shards) {
      ASSERT_EQ(shard.labels.size(), 5 * shard.rows.size());
      for (std::size_t i = 0; i < shard.rows.size(); ++i) {
        dataset->labels(static_cast<std::int64_t>(shard.rows[i]), labels);
        EXPECT_TRUE(std::equal(labels.begin(), labels.end(),
                               shard.labels.begin() + static_cast<std::ptrdiff_t>(5 * i)));
      }
    }
  }
}

TEST(BatchLoader, AnotherOrderEachEpochAndEachSeed) {
  const auto world = comm::Comm::world();
  const auto dataset = made_up_dataset(world, 64, Shape{1}, 2);
  const auto order = [&](std::uint64_t seed, std::int64_t first) {
    auto options = options_of(0, 1, 64);
    options.seed = seed;
    BatchLoader loader(dataset, options, first);
    std::vector<std::uint64_t> rows;
    for (const auto& shard : loader.next().shards)
      rows.insert(rows.end(), shard.rows.begin(), shard.rows.end());
    return rows;
  };
  EXPECT_EQ(order(1, 0), order(1, 0));
  EXPECT_NE(order(1, 0), order(1, 1));
  EXPECT_NE(order(1, 0), order(2, 0));
}

/// A dataset that breaks at one sample.
class Broken final : public Dataset {
 public:
  explicit Broken(DatasetPtr base) : base_(std::move(base)) {}
  [[nodiscard]] std::int64_t size() const override { return base_->size(); }
  [[nodiscard]] const Shape& sample_shape() const override { return base_->sample_shape(); }
  [[nodiscard]] int classes() const override { return base_->classes(); }
  void get(std::int64_t i, std::span<float> out) const override {
    if (i == 20) throw Error("sample 20 is broken");
    base_->get(i, out);
  }
  [[nodiscard]] std::int32_t label(std::int64_t i) const override { return base_->label(i); }
  [[nodiscard]] std::uint64_t id(std::int64_t i) const override { return base_->id(i); }
  [[nodiscard]] const Digest& digest(std::int64_t i) const override { return base_->digest(i); }

 private:
  DatasetPtr base_;
};

TEST(BatchLoader, AFailureInItsThreadReachesTheCaller) {
  const auto dataset = std::make_shared<Broken>(made_up_dataset(comm::Comm::world(), 32, Shape{1}, 2));
  auto options = options_of(0, 1, 8);
  options.sampler = make_sampler("sequential");
  BatchLoader loader(dataset, options);
  loader.next();
  loader.next();
  EXPECT_THROW(loader.next(), Error);
}

}  // namespace
}  // namespace impart::data

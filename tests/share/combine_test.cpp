#include "impart/share/combine/combine.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>

#include "impart/core/error.hpp"
#include "share/combine_support.hpp"

namespace impart::share {
namespace {

using testing::HasSubstr;
using testing_support::equal_bits;
using testing_support::error_of;
using testing_support::make_combiner;
using testing_support::random_state;

StateDict linear(const std::vector<const StateDict*>& models, const SettingTable& settings = {}) {
  return combine(*make_combiner("linear", settings), models);
}

SettingTable weights(std::vector<double> weight) { return {{"weight", std::move(weight)}}; }

TEST(Linear, IsTheMeanOfParametersAndBuffers) {
  const auto a = random_state(1);
  const auto b = random_state(2);
  const auto mean = linear({&a, &b});
  for (const auto* name : {"a.weight", "b.running_mean", "c.bias"}) {
    for (std::size_t i = 0; i < mean.values(name).size(); ++i) {
      EXPECT_FLOAT_EQ(mean.values(name)[i], 0.5F * (a.values(name)[i] + b.values(name)[i]));
    }
  }
}

TEST(Linear, OfEqualModelsIsThatModelBitForBit) {
  const auto a = random_state(1);
  EXPECT_TRUE(equal_bits(a, linear({&a, &a, &a})));
}

TEST(Linear, DividesByTheSumOfTheWeights) {
  const auto a = random_state(1);
  const auto b = random_state(2);
  const auto mean = linear({&a, &b}, weights({3, 1}));
  EXPECT_NEAR(mean.values("a.weight")[2], 0.75 * a.values("a.weight")[2] + 0.25 * b.values("a.weight")[2],
              1e-7);
  EXPECT_TRUE(equal_bits(b, linear({&a, &b}, weights({0, 2}))));
  const auto sum = linear({&a, &b}, {{"weight", std::vector<double>{2, 1}}, {"normalize", false}});
  EXPECT_FLOAT_EQ(sum.values("c.bias")[3], 2 * a.values("c.bias")[3] + b.values("c.bias")[3]);
}

/// Weights divided first; sums in double, in the models' order; rounded once.
TEST(Linear, SumsInOneOrder) {
  const std::vector<double> weight{0.3, 1.7, 0.9};
  const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  std::vector<StateDict> models;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) models.push_back(random_state(seed));
  const auto mean = linear({&models[0], &models[1], &models[2]}, weights(weight));
  for (std::size_t i = 0; i < mean.arena().size(); ++i) {
    double sum = 0;
    for (std::size_t m = 0; m < 3; ++m) sum += weight[m] / total * static_cast<double>(models[m].arena()[i]);
    EXPECT_EQ(mean.arena()[i], static_cast<float>(sum));
  }
}

TEST(Linear, RefusesWhatHasNoMean) {
  const auto a = random_state(1);
  const auto other = random_state(2, "d.weight");
  EXPECT_THAT(error_of([&] { linear({}); }), HasSubstr("no models"));
  EXPECT_THAT(error_of([&] {
                linear({&a, &a, &a}, weights({1, 2}));
              }),
              HasSubstr("expected 3 numbers, got 2"));
  EXPECT_THAT(error_of([&] { linear({&a, &a}, weights({1, -1})); }), HasSubstr("at least 0"));
  EXPECT_THAT(error_of([&] { linear({&a}, weights({0})); }), HasSubstr("sum to zero"));
  EXPECT_THAT(error_of([&] { linear({&a, &other}); }), HasSubstr("'a.weight' is missing"));
}

TEST(Combiners, AreFoundByNameAndOldNamesHaveSuccessors) {
  EXPECT_NE(combiners().find("linear"), nullptr);
  EXPECT_EQ(combiners().find("average"), nullptr);
  EXPECT_EQ(combiner_successor("average"), "linear");
  EXPECT_EQ(combiner_successor("weighted"), "linear");
  EXPECT_EQ(combiner_successor("averige"), "");
}

TEST(Combiners, DoWithDefaultsAlone) {
  const auto a = random_state(1);
  const auto b = random_state(2);
  for (const auto& kind : combiners().document()) {
    const auto combiner = make_combiner(kind.name);
    if (combiner->needs().data || combiner->needs().statistics) continue;
    const auto result = combine(*combiner, std::vector{&a, &a}, &b);
    for (std::size_t i = 0; i < result.buffers().size(); ++i)
      EXPECT_EQ(result.buffers()[i], a.buffers()[i]) << kind.name << ": buffers are a mean";
  }
}

/// Sums numbers that are not integers, over two passes, and remembers what it has read.
class Recording final : public Combiner {
 public:
  CombinerNeeds needs() const override { return {.models = 2, .base = true}; }
  void begin(const StateLayout&, std::size_t) override { passes_ = 0; }
  std::size_t measures() const override { return passes_ < 2 ? 1 : 0; }
  void measure(const TensorOfModels& tensor, std::span<double> sums) const override {
    for (const float x : tensor.models[1]) sums[0] += static_cast<double>(x) * (passes_ == 0 ? 0.1 : sum_);
  }
  void measured(std::span<const double> sums) override {
    ++passes_;
    sum_ = sums[0];
  }
  void combine(const TensorOfModels& tensor, std::span<float> result) const override {
    for (std::size_t i = 0; i < result.size(); ++i)
      result[i] = -0.0F * tensor.base[i] + static_cast<float>(sum_) * tensor.models[0][i];
  }

 private:
  int passes_ = 0;
  double sum_ = 0;
};

class Distributed : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::temp_directory_path() / ("impart_combine_" + std::to_string(world_.size()));
    if (world_.is_root()) {
      std::filesystem::remove_all(directory_);
      std::filesystem::create_directories(directory_);
      for (std::uint64_t seed = 0; seed < 3; ++seed) {
        io::Checkpoint checkpoint;
        checkpoint.state = random_state(seed);
        io::write_checkpoint(path(seed), checkpoint);
      }
    }
    world_.barrier();
  }
  void TearDown() override {
    world_.barrier();
    if (world_.is_root()) std::filesystem::remove_all(directory_);
  }
  std::filesystem::path path(std::uint64_t seed) const {
    return directory_ / ("model" + std::to_string(seed) + ".h5");
  }

  comm::Comm world_ = comm::Comm::world();
  std::filesystem::path directory_;
};

TEST_F(Distributed, FilesOnAnyNumberOfRanksGiveTheBitsOfMemory) {
  const auto base = random_state(0);
  const auto a = random_state(1);
  const auto b = random_state(2);
  const StateSource base_in_memory(base);
  const StateSource a_in_memory(a);
  const StateSource b_in_memory(b);
  const std::vector<const TensorSource*> in_memory{&a_in_memory, &b_in_memory};
  const CheckpointSource base_file(path(0));
  const CheckpointSource a_file(path(1));
  const CheckpointSource b_file(path(2));
  const std::vector<const TensorSource*> files{&a_file, &b_file};
  for (const int shards : {4, 8}) {
    Recording recording;
    const auto alone = combine(comm::Comm::self(), shards, recording, {in_memory, &base_in_memory});
    const auto together = combine(world_, shards, recording, {files, &base_file});
    EXPECT_TRUE(equal_bits(alone, together));
  }
  EXPECT_TRUE(equal_bits(linear({&a, &b}), combine(world_, 8, *make_combiner("linear"), {files})));
}

TEST_F(Distributed, WhatIsMissingOrDamagedFailsOnEveryRank) {
  const CheckpointSource a(path(1));
  const CheckpointSource b(path(2));
  const std::vector<const TensorSource*> both{&a, &b};
  const std::vector<const TensorSource*> one{&a};
  Recording recording;
  EXPECT_THAT(error_of([&] { combine(world_, 8, recording, {both}); }), HasSubstr("needs their base"));
  EXPECT_THAT(error_of([&] { combine(world_, 8, recording, {one, &b}); }), HasSubstr("expected at least 2"));
  world_.barrier();
  if (world_.is_root()) {  // a value of the last tensor, behind the reader's back
    const auto state = random_state(1);
    const auto values = std::as_bytes(state.values("c.bias"));
    std::fstream file(path(1), std::ios::in | std::ios::out | std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    const auto at = bytes.find(std::string(reinterpret_cast<const char*>(values.data()), values.size()));
    ASSERT_NE(at, std::string::npos);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(bytes[at] ^ 1));
  }
  world_.barrier();
  const CheckpointSource damaged(path(1));
  const std::vector<const TensorSource*> models{&damaged, &b};
  const auto error = error_of([&] { combine(world_, 8, *make_combiner("linear"), {models}); });
  EXPECT_THAT(error, HasSubstr("/parameters/c.bias: the values do not match their digest"));
}

}  // namespace
}  // namespace impart::share

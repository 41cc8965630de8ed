// The passes of batch norm against plain loops in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <cmath>
#include <limits>
#include <memory>
#include <thread>

#include "impart/core/error.hpp"
#include "impart/core/summation_tree.hpp"
#include "nn/kernels/kernels.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

struct Moments {
  double mean = 0;
  double variance = 0;
};

/// Rows and channels that fill no register, and blocks that are not full.
constexpr std::int64_t kRows = 203;
constexpr std::int64_t kChannels = 37;

std::size_t at(std::int64_t row, std::int64_t channel) {
  return static_cast<std::size_t>(row * kChannels + channel);
}

Moments plain_moments(const std::vector<float>& x, std::int64_t channel) {
  Moments m;
  for (std::int64_t r = 0; r < kRows; ++r) m.mean += static_cast<double>(x[at(r, channel)]) / kRows;
  for (std::int64_t r = 0; r < kRows; ++r) {
    const double difference = static_cast<double>(x[at(r, channel)]) - m.mean;
    m.variance += difference * difference / kRows;
  }
  return m;
}

std::vector<float> table(std::uint64_t seed) { return normal_values(at(kRows, 0), seed); }

class BatchNormKernels : public ::testing::TestWithParam<Rectifier> {
 protected:
  [[nodiscard]] double rectified(double value) const {
    if (GetParam() != Rectifier::kNone) value = std::max(value, 0.0);
    return GetParam() == Rectifier::kRelu6 ? std::min(value, 6.0) : value;
  }
  /// Whether the gradient passes.
  [[nodiscard]] bool passes(float value) const {
    if (GetParam() == Rectifier::kNone) return true;
    return value > 0 && (GetParam() == Rectifier::kRelu || value < 6);
  }
  [[nodiscard]] Norm norm() const {
    return {.rows = kRows,
            .channels = kChannels,
            .rectifier = GetParam(),
            .mean = mean_.data(),
            .scale = scale_.data(),
            .bias = bias_.data()};
  }

  std::vector<float> x_ = table(1);
  std::vector<float> other_ = table(2);
  std::vector<float> mean_ = normal_values(kChannels, 3);
  std::vector<float> scale_ = normal_values(kChannels, 4, 3.0);
  std::vector<float> bias_ = normal_values(kChannels, 5, 3.0);
  std::vector<float> work_ = std::vector<float>(3 * kChannels);
  std::vector<double> sums_ = std::vector<double>(2 * kChannels);
};

TEST_P(BatchNormKernels, ForwardIsThePlainLoop) {
  for (const float* other : {static_cast<const float*>(nullptr), static_cast<const float*>(other_.data())}) {
    std::vector<float> y(x_.size(), NAN);
    kernels().norm_forward(norm(), x_.data(), other, y.data());
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t c = 0; c < kChannels; ++c) {
        const auto k = static_cast<std::size_t>(c);
        double value = (static_cast<double>(x_[at(r, c)]) - static_cast<double>(mean_[k])) *
                           static_cast<double>(scale_[k]) +
                       static_cast<double>(bias_[k]);
        if (other != nullptr) value += static_cast<double>(other[at(r, c)]);
        EXPECT_NEAR(static_cast<double>(y[at(r, c)]), rectified(value), 1e-5);
      }
    }
  }
}

TEST_P(BatchNormKernels, NanStays) {
  x_[at(100, 7)] = NAN;
  std::vector<float> y(x_.size());
  kernels().norm_forward(norm(), x_.data(), nullptr, y.data());
  EXPECT_TRUE(std::isnan(y[at(100, 7)]));
}

TEST_P(BatchNormKernels, GradientSumsAndWhatPassesAreThePlainLoops) {
  for (const bool with_other : {false, true}) {
    std::vector<float> y(x_.size());
    kernels().norm_forward(norm(), x_.data(), with_other ? other_.data() : nullptr, y.data());
    const auto grad = table(6);
    auto grad_y = grad;
    kernels().norm_gradient_sums(norm(), x_.data(), with_other ? y.data() : nullptr, grad_y.data(),
                                 work_.data(), sums_.data());
    for (std::int64_t c = 0; c < kChannels; ++c) {
      const auto k = static_cast<std::size_t>(c);
      double sum = 0;
      double weighted = 0;
      for (std::int64_t r = 0; r < kRows; ++r) {
        const float g = passes(y[at(r, c)]) ? grad[at(r, c)] : 0;
        EXPECT_EQ(grad_y[at(r, c)], with_other ? g : grad[at(r, c)]);
        sum += static_cast<double>(g);
        weighted +=
            static_cast<double>(g) * (static_cast<double>(x_[at(r, c)]) - static_cast<double>(mean_[k]));
      }
      EXPECT_NEAR(sums_[k], sum, 1e-5);
      EXPECT_NEAR(sums_[kChannels + k], weighted, 1e-5);
    }
  }
}

TEST_P(BatchNormKernels, DataGradientIsThePlainLoop) {
  const auto grad_scale = normal_values(kChannels, 7);
  const auto x_scale = normal_values(kChannels, 8);
  const auto offset = normal_values(kChannels, 9);
  const NormGradient gradient{
      .grad_scale = grad_scale.data(), .x_scale = x_scale.data(), .offset = offset.data()};
  const auto grad_y = table(6);
  std::vector<float> y(x_.size());
  kernels().norm_forward(norm(), x_.data(), nullptr, y.data());
  for (const bool add : {false, true}) {
    auto grad_x = other_;
    kernels().norm_backward(norm(), gradient, x_.data(), grad_y.data(), add, grad_x.data());
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t c = 0; c < kChannels; ++c) {
        const auto k = static_cast<std::size_t>(c);
        const float g = passes(y[at(r, c)]) ? grad_y[at(r, c)] : 0;
        const double expected = static_cast<double>(grad_scale[k]) * static_cast<double>(g) +
                                static_cast<double>(x_scale[k]) *
                                    (static_cast<double>(x_[at(r, c)]) - static_cast<double>(mean_[k])) +
                                static_cast<double>(offset[k]) +
                                (add ? static_cast<double>(other_[at(r, c)]) : 0.0);
        EXPECT_NEAR(static_cast<double>(grad_x[at(r, c)]), expected, 1e-5);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rectifiers, BatchNormKernels,
                         ::testing::Values(Rectifier::kNone, Rectifier::kRelu, Rectifier::kRelu6));

class BatchNormMoments : public ::testing::TestWithParam<double> {};

TEST_P(BatchNormMoments, VarianceKeepsItsDigitsFarFromZero) {
  auto x = table(1);
  for (float& v : x) v = static_cast<float>(static_cast<double>(v) + GetParam());
  std::vector<float> work(3 * kChannels);
  std::vector<double> sums(2 * kChannels);
  kernels().norm_measure(kRows, kChannels, x.data(), work.data(), sums.data());
  for (std::int64_t c = 0; c < kChannels; ++c) {
    const Moments expected = plain_moments(x, c);
    const auto k = static_cast<std::size_t>(c);
    EXPECT_NEAR(sums[k], expected.mean, 1e-6);
    EXPECT_NEAR(sums[kChannels + k] / expected.variance, 1, 1e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(Means, BatchNormMoments, ::testing::Values(0.0, 1.0, -100.0, 10000.0));

TEST(BatchNormMoments, FirstRowsThatAreUnlikeTheOthers) {
  auto x = table(1);
  for (std::size_t i = 0; i < at(64, 0); ++i) x[i] = 50;
  std::vector<float> work(3 * kChannels);
  std::vector<double> sums(2 * kChannels);
  kernels().norm_measure(kRows, kChannels, x.data(), work.data(), sums.data());
  for (std::int64_t c = 0; c < kChannels; ++c) {
    EXPECT_NEAR(sums[static_cast<std::size_t>(kChannels + c)] / plain_moments(x, c).variance, 1, 1e-6);
  }
}

const Shape kImage{20, 5, 3};

std::vector<float> tree_sum(const std::vector<std::vector<float>>& shards) {
  std::vector<float> total(shards[0].size());
  std::vector<float> partial(total.size() * shards.size());
  ShardTree tree(static_cast<std::int64_t>(total.size()), total.data(), partial.data());
  for (const auto& shard : shards) {
    std::copy(shard.begin(), shard.end(), tree.next());
    tree.put();
  }
  return total;
}

TEST(BatchNormLayer, EightShardsHaveTheBitsOfShardsAlone) {
  const LoneOptions options{.shards = 8, .absorbed = {layer("relu")}};
  LoneLayer together(layer("batch_norm"), kImage, 16, options);
  const auto x = normal_values(together.input().size(), 1);
  const auto probe = normal_values(x.size(), 2);
  together.input().assign(x.begin(), x.end());
  together.forward();
  together.backward({probe.begin(), probe.end()});
  std::vector<std::vector<std::vector<float>>> gradients(4);
  const auto part = static_cast<std::ptrdiff_t>(x.size() / 8);
  for (std::ptrdiff_t s = 0; s < 8; ++s) {
    LoneLayer alone(layer("batch_norm"), kImage, 2, {.absorbed = {layer("relu")}});
    alone.input().assign(x.begin() + s * part, x.begin() + (s + 1) * part);
    alone.forward();
    alone.backward({probe.begin() + s * part, probe.begin() + (s + 1) * part});
    EXPECT_TRUE(std::equal(alone.output.begin(), alone.output.end(), together.output.begin() + s * part));
    EXPECT_TRUE(std::equal(alone.grad_input().begin(), alone.grad_input().end(),
                           together.grad_input().begin() + s * part));
    for (std::size_t k = 0; k < 4; ++k) gradients[k].push_back(alone.gradients[k]);
  }
  for (std::size_t k = 0; k < 4; ++k) EXPECT_EQ(together.gradients[k], tree_sum(gradients[k]));
}

/// The sums over shards, too: a batch of one shard has the same statistics.
TEST(BatchNormLayer, EightSyncedShardsAreOneBatch) {
  const auto synced = layer("batch_norm", {{"sync", true}});
  auto add = layer("add");
  add.from = {"a", "b"};
  for (const auto& absorbed : {std::vector<LayerSpec>{}, {layer("relu")}, {add, layer("relu6")}}) {
    const std::vector<Shape> inputs(absorbed.size() == 2 ? 2 : 1, kImage);
    LoneLayer shards(synced, inputs, 16, {.shards = 8, .absorbed = absorbed});
    LoneLayer batch(layer("batch_norm"), inputs, 16, {.absorbed = absorbed});
    const auto size = batch.input().size();
    auto x = normal_values(size, 1);
    for (std::size_t i = 0; i < size / 4; ++i) x[i] += 3;  // shards that are unlike the others
    const auto other = normal_values(size, 2);
    auto probe = normal_values(size, 3);
    for (auto* lone : {&shards, &batch}) {
      lone->input().assign(x.begin(), x.end());
      if (inputs.size() == 2) lone->inputs[1].assign(other.begin(), other.end());
      lone->pass.shard_share = lone == &shards ? 0.125F : 1.0F;
      lone->forward();
    }
    EXPECT_LT(relative_difference(shards.output, batch.output), 1e-6);
    for (std::size_t i = 0; i < size; ++i) {  // where rounding decides what the rectifier lets pass
      if (std::abs(batch.output[i]) < 1e-4F || std::abs(batch.output[i] - 6) < 1e-4F) probe[i] = 0;
    }
    for (auto* lone : {&shards, &batch}) lone->backward({probe.begin(), probe.end()});
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      EXPECT_LT(relative_difference(shards.grad_inputs[k], batch.grad_inputs[k]), 1e-5);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      EXPECT_LT(relative_difference(shards.gradients[k], batch.gradients[k]), 1e-5) << k;
    }
  }
}

/// Two layers that each have half of a batch, and sum what one layer sums over its shards.
TEST(BatchNormLayer, PeersHaveTheBitsOfShards) {
  const auto synced = layer("batch_norm", {{"sync", true}});
  LoneLayer whole(synced, kImage, 16, {.shards = 4});
  const auto x = normal_values(whole.input().size(), 1);
  const auto probe = normal_values(x.size(), 2);
  whole.input().assign(x.begin(), x.end());
  whole.forward();
  whole.backward({probe.begin(), probe.end()});

  std::barrier meet(2);
  std::array<std::vector<double>, 2> given;
  std::array<std::unique_ptr<LoneLayer>, 2> halves;
  const std::size_t part = x.size() / 2;
  const auto run_half = [&](std::size_t h) {
    const auto sum = [&, h](std::span<double> values) {
      given.at(h).assign(values.begin(), values.end());
      meet.arrive_and_wait();
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = given[0][i] + given[1][i];
      meet.arrive_and_wait();
    };
    halves.at(h) =
        std::make_unique<LoneLayer>(synced, kImage, 8, LoneOptions{.shards = 2, .peers = {2, sum}});
    const std::size_t begin = h * part;
    const auto mine = std::span(x).subspan(begin, part);
    halves.at(h)->input().assign(mine.begin(), mine.end());
    halves.at(h)->forward();
    const auto probed = std::span(probe).subspan(begin, part);
    halves.at(h)->backward({probed.begin(), probed.end()});
  };
  std::thread second(run_half, 1);
  run_half(0);
  second.join();

  for (std::size_t h = 0; h < 2; ++h) {
    const std::size_t begin = h * part;
    EXPECT_TRUE(std::ranges::equal(halves.at(h)->output, std::span(whole.output).subspan(begin, part)));
    EXPECT_TRUE(
        std::ranges::equal(halves.at(h)->grad_input(), std::span(whole.grad_input()).subspan(begin, part)));
  }
  for (std::size_t k = 0; k < 4; ++k) {
    EXPECT_EQ(whole.gradients[k], tree_sum({halves[0]->gradients[k], halves[1]->gradients[k]}));
  }
}

TEST(BatchNormLayer, SyncedShardsOfOneValueHaveStatistics) {
  const Shape features{5};
  EXPECT_THROW(LoneLayer(layer("batch_norm"), features, 8, {.shards = 8}), Error);
  LoneLayer lone(layer("batch_norm", {{"sync", true}}), features, 8, {.shards = 8});
  const auto x = normal_values(40, 1);
  lone.input().assign(x.begin(), x.end());
  for (auto& weight : lone.state[0]) weight = 1;
  for (auto& bias : lone.state[1]) bias = 0;
  lone.forward();
  for (std::size_t c = 0; c < 5; ++c) {
    double squares = 0;
    for (std::size_t n = 0; n < 8; ++n) {
      squares += static_cast<double>(lone.output[n * 5 + c]) * static_cast<double>(lone.output[n * 5 + c]);
    }
    EXPECT_NEAR(squares / 8, 1, 1e-3);
  }
}

TEST(BatchNormLayer, AFrozenSyncedOneSpeaksToNobody) {
  const auto sum = [](std::span<double>) { FAIL() << "summed over peers"; };
  LoneLayer lone(layer("batch_norm", {{"sync", true}}), kImage, 4, {.trainable = false, .peers = {2, sum}});
  lone.forward();
  const auto probe = normal_values(lone.output.size(), 2);
  lone.backward({probe.begin(), probe.end()});
}

TEST(BatchNormLayer, TakesOverAnAdditionAndItsRectifier) {
  auto add = layer("add");
  add.from = {"a", "b"};
  LoneLayer plain(layer("batch_norm"), kImage, 6);
  LoneLayer fused(layer("batch_norm"), {kImage, kImage}, 6, {.absorbed = {add, layer("relu")}});
  const auto x = normal_values(plain.input().size(), 1);
  const auto other = normal_values(x.size(), 2);
  for (auto* lone : {&plain, &fused}) lone->input().assign(x.begin(), x.end());
  fused.inputs[1].assign(other.begin(), other.end());
  plain.forward();
  fused.forward();
  auto passed = normal_values(x.size(), 3);
  fused.backward({passed.begin(), passed.end()});
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float sum = plain.output[i] + other[i];
    EXPECT_EQ(fused.output[i], std::max(sum, 0.0F));
    if (sum <= 0) passed[i] = 0;
  }
  plain.backward({passed.begin(), passed.end()});
  EXPECT_TRUE(std::equal(passed.begin(), passed.end(), fused.grad_inputs[1].begin()));
  EXPECT_EQ(fused.grad_input(), plain.grad_input());
  EXPECT_EQ(fused.gradients, plain.gradients);
}

TEST(BatchNormLayer, AddsToGradientsThatAreThere) {
  auto add = layer("add");
  add.from = {"a", "b"};
  LoneLayer lone(layer("batch_norm"), {kImage, kImage}, 6, {.absorbed = {add}});
  const auto x = normal_values(lone.input().size(), 1);
  lone.input().assign(x.begin(), x.end());
  lone.forward();
  const auto probe = normal_values(x.size(), 3);
  lone.backward({probe.begin(), probe.end()});
  const auto written = lone.grad_inputs;
  std::vector<InputGradient> sums;
  for (auto& grad : lone.grad_inputs) sums.push_back({grad, true});
  Values grad_output(probe.begin(), probe.end());
  std::vector<std::span<float>> gradients(lone.gradients.begin(), lone.gradients.end());
  lone.layer->backward(lone.pass, {lone.input_views, lone.output, grad_output, sums, gradients});
  for (std::size_t k = 0; k < 2; ++k) {
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(lone.grad_inputs[k][i], 2 * written[k][i]);
  }
}

}  // namespace
}  // namespace impart::nn::testing

// Networks as a whole: initial values, freezing, dropout, determinism, what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <thread>

#include "impart/core/error.hpp"
#include "impart/nn/objective.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;

std::vector<std::uint64_t> counted(std::size_t n) {
  std::vector<std::uint64_t> ids(n);
  for (std::size_t i = 0; i < n; ++i) ids[i] = i;
  return ids;
}

/// Output and gradients of one training pass.
struct TrainingPass {
  std::vector<float> output;
  StateDict gradients;
};

TrainingPass train_once(const ModelSpec& spec, const StateDict& state, std::span<const float> input,
                        std::span<const std::uint64_t> ids, NetworkOptions options = {.training = true}) {
  Network network(spec, static_cast<std::int64_t>(ids.size()), std::move(options));
  network.load(state);
  const Pass pass{.training = true, .seed = 11, .step = 4, .sample_ids = ids};
  TrainingPass result;
  const auto output = network.forward(pass, input);
  result.output.assign(output.begin(), output.end());
  std::vector<std::int32_t> labels;
  for (const auto id : ids)
    labels.push_back(static_cast<std::int32_t>(id % static_cast<std::uint64_t>(spec.classes)));
  std::vector<float> grad(output.size());
  make_cross_entropy()->evaluate(output, {.labels = labels}, spec.classes, 1.0F, grad);
  result.gradients = StateDict(state.layout_ptr());
  network.backward(pass, grad, result.gradients);
  return result;
}

bool bit_equal(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// Whatever comes between a micro-batch's passes, in another workspace, its gradients keep their bits.
void expect_micro_batches_keep_apart(const ModelSpec& spec, std::span<const float> first,
                                     std::span<const float> second, std::size_t batch) {
  const auto state = initial_state(spec, 3);
  const auto ids = counted(batch);
  const Pass pass{.training = true, .seed = 11, .step = 4, .sample_ids = ids};
  Network network(spec, static_cast<std::int64_t>(batch), {.training = true});
  network.load(state);
  auto other = network.workspace();
  const auto step = [&](std::span<const float> input) {
    const auto output = network.forward(pass, input);
    std::vector<float> grad(output.begin(), output.end());
    StateDict gradients(state.layout_ptr());
    network.backward(pass, grad, gradients);
    return gradients;
  };
  const auto of_first = step(first);
  const auto of_second = step(second);
  EXPECT_FALSE(bit_equal(of_first.arena(), of_second.arena()));

  const auto a = network.forward(pass, first);
  std::vector<float> grad_a(a.begin(), a.end());
  network.use(other);
  const auto b = network.forward(pass, second);
  std::vector<float> grad_b(b.begin(), b.end());
  EXPECT_TRUE(bit_equal(a, grad_a)) << "still there";
  network.use(network.own_workspace());
  StateDict gradients(state.layout_ptr());
  network.backward(pass, grad_a, gradients);
  EXPECT_TRUE(bit_equal(gradients.arena(), of_first.arena()));
  network.use(other);
  network.backward(pass, grad_b, gradients);
  EXPECT_TRUE(bit_equal(gradients.arena(), of_second.arena()));
}

TEST(Workspace, SeveralMicroBatchesUnderWay) {
  const auto images =
      model({3, 8, 8}, 4,
            {conv2d(6, 3), layer("batch_norm"), layer("relu"), pool("max_pool2d", 2, 2), conv2d(8, 3),
             layer("group_norm", {{"groups", whole(2)}}), layer("gelu"), layer("flatten"), dense(12),
             layer("dropout", {{"rate", 0.5}}), layer("relu"), dense(4)});
  const auto size = static_cast<std::size_t>(6 * images.input.elements());
  expect_micro_batches_keep_apart(images, normal_values(size, 1), normal_values(size, 2), 6);

  const auto sequences = model({5}, 7,
                               {layer("embedding", {{"vocabulary", whole(7)}, {"width", whole(8)}}),
                                attention(2, true, 0.2), layer("layer_norm"), dense(7)});
  std::vector<float> first(30);
  std::vector<float> second(30);
  for (std::size_t i = 0; i < 30; ++i) {
    first[i] = static_cast<float>(i % 7);
    second[i] = static_cast<float>((i * i + 1) % 7);
  }
  expect_micro_batches_keep_apart(sequences, first, second, 6);
}

TEST(Workspace, OfAnotherNetworkIsRefused) {
  Network network(digits_cnn(), 2);
  auto other = Network(digits_cnn(), 3).workspace();
  EXPECT_THROW(network.use(other), Error);
}

TEST(InitialState, HasTheVarianceOfItsRule) {
  const auto spec = model({32, 9, 9}, 200,
                          {conv2d(64, 3), layer("flatten"),
                           layer("dense", {{"units", whole(200)}, {"init", std::string("glorot")}})});
  const auto state = initial_state(spec, 1);
  auto moments = [&](const char* name) {
    double mean = 0;
    double square = 0;
    const auto values = state.values(name);
    for (const float v : values) {
      mean += static_cast<double>(v);
      square += static_cast<double>(v) * static_cast<double>(v);
    }
    const auto n = static_cast<double>(values.size());
    return std::pair(mean / n, square / n);
  };
  const double he = 2.0 / (32 * 9);
  const auto [conv_mean, conv_square] = moments("conv1.weight");  // 18,432 values
  EXPECT_NEAR(conv_mean, 0, 5 * std::sqrt(he / 18432));
  EXPECT_NEAR(conv_square / he, 1, 5 * std::sqrt(2.0 / 18432));
  const double bound = std::sqrt(6.0 / (64 * 49 + 200));
  const auto [dense_mean, dense_square] = moments("dense1.weight");  // 627,200 values
  EXPECT_NEAR(dense_mean, 0, 5 * bound / std::sqrt(3.0 * 627200));
  EXPECT_NEAR(dense_square / (bound * bound / 3), 1, 0.01);
  for (const float v : state.values("dense1.weight"))
    ASSERT_LE(std::abs(static_cast<double>(v)), bound * (1 + 1e-6));
  EXPECT_THAT(state.values("conv1.bias"), Each(0.0F));
}

TEST(InitialState, DependsOnSeedAndNameAlone) {
  const auto small = model({4}, 3, {layer("dense", {{"units", whole(3)}}, "head")});
  const auto large = model({4}, 3,
                           {layer("dense", {{"units", whole(4)}}, "body"), layer("relu"),
                            layer("dense", {{"units", whole(3)}}, "head")});
  const auto a = initial_state(small, 5);
  const auto b = initial_state(large, 5);
  EXPECT_TRUE(bit_equal(a.values("head.weight"), b.values("head.weight")));
  EXPECT_FALSE(bit_equal(a.values("head.weight"), b.values("body.weight").first(12)));
  EXPECT_FALSE(bit_equal(a.values("head.weight"), initial_state(small, 6).values("head.weight")));
}

TEST(InitialState, OneLayerAlone) {
  const auto spec = digits_cnn();
  auto state = initial_state(spec, 1);
  const auto other = initial_state(spec, 2);
  initialise_layer(spec, "dense2", 2, state);
  EXPECT_TRUE(bit_equal(state.values("dense2.weight"), other.values("dense2.weight")));
  EXPECT_FALSE(bit_equal(state.values("dense1.weight"), other.values("dense1.weight")));
  EXPECT_THROW(initialise_layer(spec, "dense3", 2, state), Error);
}

TEST(Network, GradientsOfTheExampleNetworkAgreeWithFiniteDifferences) {
  const auto spec = digits_cnn();
  auto state = initial_state(spec, 3);
  const auto input = normal_values(4 * 28 * 28, 5);
  const auto ids = counted(4);
  const auto trained = train_once(spec, state, input, ids);
  Network network(spec, 4);
  const auto objective = make_cross_entropy();
  const std::vector<std::int32_t> labels{0, 1, 2, 3};
  auto loss = [&] {
    network.load(state);
    return objective->evaluate(network.forward({}, input), {.labels = labels}, 10, 1.0F, {});
  };
  // Along each tensor's own gradient, the loss changes by the gradient's squared norm.
  for (const auto& entry : state.layout().entries()) {
    const auto gradient = trained.gradients.values(entry);
    const auto values = state.values(entry);
    const std::vector<float> before(values.begin(), values.end());
    const double square = dot(gradient, gradient);
    const double step = 1e-3 / std::sqrt(square);
    auto moved = [&](double by) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] =
            static_cast<float>(static_cast<double>(before[i]) + by * static_cast<double>(gradient[i]));
      }
      return loss();
    };
    const double slope = (moved(step) - moved(-step)) / (2 * step);
    std::copy(before.begin(), before.end(), values.begin());
    EXPECT_NEAR(slope / square, 1.0, 0.02) << entry.name;
  }
}

TEST(Network, SameBitsEachTimeAndBesideOtherThreads) {
  const auto spec = digits_cnn();
  const auto state = initial_state(spec, 3);
  const auto input = normal_values(16 * 28 * 28, 5);
  const auto ids = counted(16);
  const auto alone = train_once(spec, state, input, ids);
  std::vector<TrainingPass> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) result = train_once(spec, state, input, ids);
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& result : results) {
    EXPECT_TRUE(bit_equal(result.output, alone.output));
    EXPECT_TRUE(bit_equal(result.gradients.arena(), alone.gradients.arena()));
  }
}

TEST(Network, EvaluatesAsItTrains) {
  const auto spec = digits_cnn();
  const auto state = initial_state(spec, 3);
  const auto input = normal_values(6 * 28 * 28, 5);
  Network training(spec, 6, {.training = true});
  Network evaluation(spec, 6);
  training.load(state);
  evaluation.load(state);
  const auto a = training.forward({}, input);
  const auto b = evaluation.forward({}, input);
  EXPECT_LT(relative_difference(a, b), 1e-6);
  const auto to_train = Network::memory_of(spec, 6, {.training = true});
  const auto to_evaluate = Network::memory_of(spec, 6, {});
  EXPECT_LT(to_evaluate.activations, to_train.activations);
  EXPECT_GT(to_evaluate.activations, 6 * 32 * 13 * 13 * sizeof(float));
}

TEST(Network, ASampleDoesNotDependOnItsNeighbours) {
  const auto spec = digits_cnn();
  const auto state = initial_state(spec, 3);
  const auto input = normal_values(3 * 28 * 28, 5);
  auto shuffled = input;
  std::rotate(shuffled.begin(), shuffled.begin() + 28 * 28, shuffled.end());
  Network network(spec, 3);
  network.load(state);
  const auto first = network.forward({}, input);
  const std::vector<float> before(first.begin(), first.end());
  const auto after = network.forward({}, shuffled);
  EXPECT_LT(relative_difference(after.first(20), std::span<const float>(before).subspan(10)), 1e-6);
}

TEST(Network, PoolBeforeRectifierIsTheSameToTheLastBit) {
  for (const Shape& sample : {Shape{1, 12, 12}, Shape{16, 9, 9}, Shape{2, 9, 9}}) {
    const auto pooling = pool("max_pool2d", 2, 2);
    const std::vector<LayerSpec> tail{layer("flatten", {}, "f"),
                                      layer("dense", {{"units", whole(3)}}, "head")};
    const auto conv = layer("conv2d", {{"filters", whole(24)}, {"kernel", whole(3)}}, "conv");
    const auto a = model(sample, 3, {conv, layer("relu"), pooling, tail[0], tail[1]});
    const auto b = model(sample, 3, {conv, pooling, layer("relu"), tail[0], tail[1]});
    // The dropout that drops nothing keeps the three layers apart, each computing by itself.
    const auto apart = model(sample, 3,
                             {conv, layer("dropout", {{"rate", 0.0}}), layer("relu"),
                              layer("dropout", {{"rate", 0.0}}), pooling, tail[0], tail[1]});
    const auto state = initial_state(a, 1);
    const auto input = normal_values(static_cast<std::size_t>(5 * sample.elements()), 2);
    const auto ids = counted(5);
    const auto from_a = train_once(a, state, input, ids);
    const auto from_b = train_once(b, state, input, ids);
    const auto from_apart = train_once(apart, state, input, ids);
    EXPECT_TRUE(bit_equal(from_a.output, from_b.output));
    EXPECT_TRUE(bit_equal(from_a.gradients.arena(), from_b.gradients.arena()));
    EXPECT_LT(relative_difference(from_a.output, from_apart.output), 1e-6);
    EXPECT_LT(relative_difference(from_a.gradients.arena(), from_apart.gradients.arena()), 1e-6);
  }
}

TEST(Network, FrozenLayersGetNoGradientAndLeaveTheOthersAlone) {
  const auto spec = model({1, 10, 10}, 4,
                          {conv2d(8, 3), layer("batch_norm"), layer("relu"), conv2d(6, 3), layer("relu"),
                           layer("flatten"), dense(4)});
  auto state = initial_state(spec, 1);
  std::fill(state.values("bn1.running_var").begin(), state.values("bn1.running_var").end(), 0.7F);
  const auto input = normal_values(5 * 100, 2);
  const auto ids = counted(5);
  const std::set<std::string> trainable{"conv2", "dense1"};
  const auto frozen =
      train_once(spec, state, input, ids, {.training = true, .trainable = [&](const auto& name) {
                                             return trainable.contains(name.substr(0, name.find('.')));
                                           }});
  for (const auto& entry : state.layout().entries()) {
    const bool moves = trainable.contains(entry.name.substr(0, entry.name.find('.')));
    const auto gradient = frozen.gradients.values(entry);
    const bool zero = std::all_of(gradient.begin(), gradient.end(), [](float g) { return g == 0; });
    EXPECT_EQ(zero, !moves) << entry.name;
  }
  // With its running statistics a frozen batch norm is the same in training as in evaluation.
  Network evaluation(spec, 5);
  evaluation.load(state);
  EXPECT_LT(relative_difference(frozen.output, evaluation.forward({}, input)), 1e-6);
  // Freezing what lies above does not change the gradients below.
  const auto whole_net = train_once(spec, state, input, ids);
  const auto no_head = train_once(
      spec, state, input, ids,
      {.training = true, .trainable = [](const auto& name) { return !name.starts_with("dense1."); }});
  EXPECT_TRUE(
      bit_equal(no_head.gradients.values("conv1.weight"), whole_net.gradients.values("conv1.weight")));
  const auto nothing =
      train_once(spec, state, input, ids, {.training = true, .trainable = [](const auto&) { return false; }});
  EXPECT_THAT(nothing.gradients.arena(), Each(0.0F));
}

TEST(Network, BuffersGetTheChangeThatTheBatchAsksFor) {
  const auto spec = model({2}, 2, {layer("batch_norm", {{"momentum", 0.25}})});
  auto state = initial_state(spec, 1);
  state.values("bn1.running_mean")[1] = 4;
  const std::vector<float> input{1, 10, 3, 20};  // means 2 and 15, unbiased variances 2 and 50
  const auto ids = counted(2);
  const auto result = train_once(spec, state, input, ids);
  EXPECT_THAT(result.gradients.values("bn1.running_mean"),
              ::testing::ElementsAre(0.25F * 2, 0.25F * (15 - 4)));
  EXPECT_THAT(result.gradients.values("bn1.running_var"),
              ::testing::ElementsAre(0.25F * (2 - 1), 0.25F * (50 - 1)));
}

TEST(Network, ABatchNormNeedsMoreThanOneValueAChannel) {
  const auto spec = model({2}, 2, {layer("batch_norm")});
  EXPECT_THROW(Network(spec, 1, {.training = true}), Error);
  EXPECT_NO_THROW(Network(spec, 1));
  EXPECT_NO_THROW(Network(spec, 1, {.training = true, .trainable = [](const auto&) { return false; }}));
}

TEST(Dropout, MaskBelongsToTheSampleAndTheStep) {
  const auto spec = model({300}, 300, {layer("dropout", {{"rate", 0.3}}, "drop")});
  StateDict state(state_layout(spec));
  const std::vector<float> ones(900, 1.0F);
  auto run = [&](std::vector<std::uint64_t> ids, std::uint64_t step, std::uint64_t seed) {
    Network network(spec, static_cast<std::int64_t>(ids.size()), {.training = true});
    network.load(state);
    const auto out = network.forward({.training = true, .seed = seed, .step = step, .sample_ids = ids},
                                     std::span<const float>(ones).first(300 * ids.size()));
    return std::vector<float>(out.begin(), out.end());
  };
  const auto three = run({7, 8, 9}, 1, 1);
  const auto one = run({9}, 1, 1);
  EXPECT_TRUE(std::equal(one.begin(), one.end(), three.begin() + 600));
  EXPECT_NE(run({9}, 2, 1), one);
  EXPECT_NE(run({9}, 1, 2), one);
  EXPECT_NE(std::vector<float>(three.begin(), three.begin() + 300), one);
  int kept = 0;
  for (const float v : three) {
    EXPECT_TRUE(v == 0 || std::abs(v - 1 / 0.7F) < 1e-6F) << v;
    kept += v != 0 ? 1 : 0;
  }
  EXPECT_NEAR(kept, 630, 5 * std::sqrt(900 * 0.3 * 0.7));

  Network evaluation(spec, 1);
  evaluation.load(state);
  EXPECT_THAT(evaluation.forward({}, std::span<const float>(ones).first(300)), Each(1.0F));
  Network training(spec, 1, {.training = true});
  EXPECT_THROW(training.forward({.training = true}, std::span<const float>(ones).first(300)), Error);
}

TEST(FirstNotFinite, NamesTheLayerWhereItBegan) {
  const auto spec = digits_cnn();
  auto state = initial_state(spec, 1);
  auto input = normal_values(2 * 28 * 28, 2);
  Network network(spec, 2, {.training = true});
  auto found = [&] {
    network.load(state);
    return network.first_not_finite({}, input);
  };
  EXPECT_EQ(found(), std::nullopt);
  state.values("dense1.bias")[3] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(found(), "dense1");
  state.values("conv2.weight")[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(found(), "conv2");
  state = initial_state(spec, 1);
  input[400] =
      std::numeric_limits<float>::quiet_NaN();  // passes through rectifier and maximum, as in PyTorch
  EXPECT_EQ(found(), "conv1");
  input[400] = 0;
  for (float& v : state.values("conv3.weight")) v = 1e38F;
  EXPECT_EQ(found(), "conv3");
}

TEST(Network, RefusesWhatDoesNotFit) {
  const auto spec = digits_cnn();
  EXPECT_THROW(Network(spec, 0), Error);
  Network network(spec, 2);
  const auto state = initial_state(spec, 1);
  network.load(state);
  const std::vector<float> one_image(28 * 28);
  EXPECT_THROW(network.forward({}, one_image), Error);
  StateDict gradients(state.layout_ptr());
  std::vector<float> grad(20);
  EXPECT_THROW(network.backward({}, grad, gradients), Error);
  const auto other = initial_state(model({1, 28, 28}, 10, {layer("flatten"), dense(10)}), 1);
  try {
    network.load(other);
    FAIL() << "a state of another model was taken";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(),
                AllOf(HasSubstr("do not fit model 'test'"), HasSubstr("'conv1.weight' with 288 values")));
  }
}

TEST(Network, LoadsAStateWhoseTensorsComeInAnotherOrder) {
  const auto spec = model({3}, 2, {dense(4), layer("relu"), dense(2)});
  const auto state = initial_state(spec, 1);
  const auto entries = state.layout().entries();
  StateDict reversed(
      std::make_shared<const StateLayout>(std::vector<StateEntry>(entries.rbegin(), entries.rend())));
  for (const auto& entry : entries) {
    std::copy(state.values(entry).begin(), state.values(entry).end(), reversed.values(entry.name).begin());
  }
  const auto input = normal_values(6, 1);
  Network a(spec, 2);
  Network b(spec, 2);
  a.load(state);
  b.load(reversed);
  EXPECT_TRUE(bit_equal(a.forward({}, input), b.forward({}, input)));
}

TEST(Network, CountsTheWorkOfItsLayers) {
  const auto work = Network::work_of(digits_cnn());
  // What convolutions with relu and pool became, flatten, and two dense layers.
  ASSERT_EQ(work.size(), 6U);
  EXPECT_EQ(work[0].forward, 2.0 * 26 * 26 * 32 * 9);
  EXPECT_EQ(work[0].backward, work[0].forward);  // nobody wants the gradient of the input
  EXPECT_EQ(work[1].forward, 2.0 * 11 * 11 * 64 * 32 * 9);
  EXPECT_EQ(work[1].backward, 2 * work[1].forward);
  EXPECT_EQ(work[3].forward, 0);
  EXPECT_EQ(work[5].forward, 2.0 * 64 * 10);
  EXPECT_FALSE(work[5].kernels.empty());
}

TEST(Network, TimesItsLayersWhenAsked) {
  Network network(digits_cnn(), 8);
  const auto state = initial_state(digits_cnn(), 1);
  network.load(state);
  const auto input = normal_values(8 * 784, 2);
  network.forward({}, input);
  EXPECT_EQ(network.layer_times()[0].forward_seconds, 0);
  network.time_layers();
  network.forward({}, input);
  for (const auto& layer : network.layer_times()) {
    EXPECT_GT(layer.forward_seconds, 0) << layer.layer;
    EXPECT_EQ(layer.backward_seconds, 0) << layer.layer;
  }
}

TEST(InstructionSet, TheVariableLowersTheLevel) {
  const char* before = std::getenv("ONEDNN_MAX_CPU_ISA");
  const std::string kept = before == nullptr ? "" : before;
  const auto level_with = [](const char* limit) {
    setenv("ONEDNN_MAX_CPU_ISA", limit, 1);
    return isa_level();
  };
  EXPECT_EQ(level_with("AVX2"), 0);
  EXPECT_EQ(level_with("AVX2_VNNI"), 0);
  EXPECT_EQ(level_with("AVX512_CORE_FP16"), level_with("AVX512_CORE_BF16"));
  EXPECT_EQ(level_with("AVX10_1_512"), level_with("AVX512_CORE_BF16"));
  EXPECT_LE(level_with("AVX512_CORE"), level_with("AVX512_CORE_BF16"));
  EXPECT_LE(level_with("AVX512_CORE_BF16"), level_with("ALL"));
  before == nullptr ? unsetenv("ONEDNN_MAX_CPU_ISA") : setenv("ONEDNN_MAX_CPU_ISA", kept.c_str(), 1);
}

}  // namespace
}  // namespace impart::nn::testing

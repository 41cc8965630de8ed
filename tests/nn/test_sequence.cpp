// Networks on sequences: what attention sees, what an embedding refuses, the model of the zoo.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "impart/core/error.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/zoo.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kClasses = 11;
constexpr std::int64_t kSteps = 12;

ModelSpec small_transformer(double dropout = 0) {
  return zoo_model("transformer", {kSteps}, kClasses,
                   {{"layers", whole(2)}, {"width", whole(16)}, {"heads", whole(2)}, {"dropout", dropout}});
}

std::vector<float> words(std::int64_t samples, std::uint64_t seed) {
  Rng rng(seed, "test");
  std::vector<float> values(static_cast<std::size_t>(samples * kSteps));
  for (float& v : values) v = static_cast<float>(rng.below(kClasses));
  return values;
}

TEST(Transformer, HasTheNamesOfPyTorchsEncoder) {
  const auto spec = small_transformer();
  std::vector<std::string> names;
  const auto layout = state_layout(spec);
  for (const auto& entry : layout->entries()) names.push_back(entry.name);
  EXPECT_THAT(
      names, ::testing::IsSupersetOf({"embedding.weight", "layers.0.self_attn.in_proj_weight",
                                      "layers.0.self_attn.in_proj_bias", "layers.0.self_attn.out_proj.weight",
                                      "layers.0.self_attn.out_proj.bias", "layers.0.linear1.weight",
                                      "layers.0.linear2.bias", "layers.1.norm1.weight", "layers.1.norm2.bias",
                                      "norm.weight", "head.weight", "head.bias"}));
  EXPECT_EQ(head_of(spec), "head");
  EXPECT_EQ(check_model(spec).back(), (Shape{kSteps, kClasses}));
  // embedding, 2 blocks of (attention, two dense layers, two norms), norm, head
  const int block = 4 * 16 * 16 + 4 * 16 + 2 * 4 * 16 * 16 + 5 * 16 + 4 * 16;
  EXPECT_EQ(layout->parameter_count(), 11 * 16 + 2 * block + 2 * 16 + 11 * 16 + 11);
}

TEST(Attention, ItsWorkIsCounted) {
  ModelSpec spec{"words", {3}, 5, {}};
  spec.layers = {{"embedding", "", {{"vocabulary", whole(5)}, {"width", whole(4)}}},
                 {"multi_head_attention", "", {{"heads", whole(2)}}},
                 {"dense", "", {{"units", whole(5)}}}};
  const auto work = Network::work_of(spec);
  ASSERT_EQ(work.size(), 3U);
  // For 3 steps: queries, keys, values and outputs are products with 4x4 weights. Each of 2 heads multiplies
  // 3x2 by 2x3, then 3x3 by 3x2. Both factors of each product have a gradient.
  constexpr int kForward = 2 * (4 * 3 * 4 * 4 + 2 * (3 * 2 * 3 + 3 * 3 * 2));
  EXPECT_EQ(work[1].forward, kForward);
  EXPECT_EQ(work[1].backward, 2 * kForward);
  EXPECT_EQ(work[1].kernels, "gemm");
}

TEST(Transformer, NoStepSeesWhatFollows) {
  const auto spec = small_transformer();
  Network network(spec, 1);
  const auto state = initial_state(spec, 1);
  network.load(state);
  auto input = words(1, 3);
  const auto output = network.forward({}, input);
  const std::vector<float> before(output.begin(), output.end());
  constexpr std::size_t kChanged = 7;
  input[kChanged] = static_cast<float>((static_cast<int>(input[kChanged]) + 1) % kClasses);
  const auto after = network.forward({}, input);
  constexpr std::size_t kSame = kChanged * kClasses;
  EXPECT_EQ(std::memcmp(before.data(), after.data(), kSame * sizeof(float)), 0);
  for (std::size_t step = kChanged; step < kSteps; ++step) {
    const auto row = after.subspan(step * kClasses, kClasses);
    EXPECT_FALSE(
        std::equal(row.begin(), row.end(), before.begin() + static_cast<std::ptrdiff_t>(step * kClasses)))
        << step;
  }
}

struct Trained {
  std::vector<float> output;
  StateDict gradients;
};

Trained train(const ModelSpec& spec, const StateDict& state, std::span<const float> input,
              std::span<const std::uint64_t> ids, std::int64_t shards) {
  Network network(spec, static_cast<std::int64_t>(ids.size()), {.training = true, .shards = shards});
  network.load(state);
  const Pass pass{.training = true, .seed = 3, .step = 2, .sample_ids = ids};
  const auto output = network.forward(pass, input);
  std::vector<std::int32_t> labels;
  for (const float word : input) labels.push_back((static_cast<std::int32_t>(word) + 3) % kClasses);
  std::vector<float> grad(output.size());
  make_cross_entropy()->evaluate(output, {.labels = labels}, kClasses, 0.125F, grad);
  Trained result{{output.begin(), output.end()}, StateDict(state.layout_ptr())};
  network.backward(pass, grad, result.gradients);
  return result;
}

TEST(Transformer, FourShardsAtOnceAreShardByShard) {
  const auto spec = small_transformer(0.2);
  const auto state = initial_state(spec, 1);
  const auto input = words(8, 5);
  const std::vector<std::uint64_t> ids{4, 9, 2, 7, 1, 0, 3, 5};
  const auto whole_batch = train(spec, state, input, ids, 4);
  std::vector<StateDict> parts;
  for (std::size_t s = 0; s < 4; ++s) {
    const auto part = std::span(input).subspan(s * 2 * kSteps, 2 * kSteps);
    auto [output, gradients] = train(spec, state, part, std::span(ids).subspan(2 * s, 2), 1);
    EXPECT_TRUE(std::equal(output.begin(), output.end(),
                           whole_batch.output.begin() + static_cast<std::ptrdiff_t>(s * output.size())));
    parts.push_back(std::move(gradients));
  }
  const auto sum = whole_batch.gradients.arena();
  for (std::size_t i = 0; i < sum.size(); ++i) {
    const float first = parts[0].arena()[i] + parts[1].arena()[i];
    const float second = parts[2].arena()[i] + parts[3].arena()[i];
    ASSERT_EQ(sum[i], first + second) << i;
  }
}

TEST(Embedding, AnIndexOutsideTheVocabularyIsNamed) {
  const auto spec = small_transformer();
  Network network(spec, 2);
  const auto state = initial_state(spec, 1);
  network.load(state);
  const auto complaint = [&](float index) -> std::string {
    auto input = words(2, 3);
    input[kSteps + 5] = index;
    try {
      network.forward({}, input);
      return "";
    } catch (const Error& e) {
      return e.what();
    }
  };
  EXPECT_EQ(complaint(10), "");
  EXPECT_THAT(complaint(11), AllOf(HasSubstr("from 0 to 10"), HasSubstr("got 11 at place 5 of sample 1")));
  EXPECT_THAT(complaint(-1), HasSubstr("got -1"));
  EXPECT_THAT(complaint(2.5F), HasSubstr("got 2.5"));
  EXPECT_THAT(complaint(std::numeric_limits<float>::quiet_NaN()), HasSubstr("got nan"));
}

TEST(Embedding, ReadsNoLayerThatIsTrained) {
  const auto spec = model({4}, 3,
                          {dense(4), layer("embedding", {{"vocabulary", whole(9)}, {"width", whole(2)}}),
                           layer("flatten"), dense(3)});
  EXPECT_NO_THROW(Network(spec, 2));
  EXPECT_THROW(Network(spec, 2, {.training = true}), Error);
}

}  // namespace
}  // namespace impart::nn::testing

// Models of the zoo against PyTorch in double precision, as zoo_reference.py has written it.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "impart/nn/objective.hpp"
#include "impart/nn/zoo.hpp"
#include "nn/nn_testing.hpp"
#include "records.hpp"

namespace impart::nn::testing {
namespace {

using Records = std::map<std::string, std::vector<double>>;

constexpr double kTolerance = 1e-4;
constexpr std::int64_t kBatch = 4;
constexpr std::size_t kSteps = 3;
constexpr float kLearningRate = 0.01F;

// Values in [-0.5, 0.5): FNV-1a of the name seeds SplitMix64, as in zoo_reference.py.
std::vector<double> uniform(const std::string& name, std::size_t count) {
  std::uint64_t seed = 14695981039346656037U;
  for (const char c : name) seed = (seed ^ static_cast<std::uint8_t>(c)) * 1099511628211U;
  std::vector<double> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    std::uint64_t x = seed + (i + 1) * 0x9E3779B97F4A7C15U;
    x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
    x ^= x >> 31U;
    values[i] = static_cast<double>(x >> 40U) / (1 << 24) - 0.5;
  }
  return values;
}

void fill(StateDict& state, const std::string& name) {
  for (const auto& entry : state.layout().entries()) {
    auto values = uniform(name + "/" + entry.name, state.values(entry).size());
    const auto dot = entry.name.rfind('.');
    const auto leaf = entry.name.substr(dot + 1);
    const bool normalises = state.layout().find(entry.name.substr(0, dot) + ".running_mean") != nullptr;
    for (double& v : values) {
      if (entry.shape.rank() > 1) {
        v *= std::sqrt(24.0 * static_cast<double>(entry.shape[0]) / static_cast<double>(values.size()));
      } else if (!normalises || leaf == "running_mean") {
        v *= 0.2;
      } else {
        v = leaf == "weight" ? 0.5 + 0.5 * v : 1 + 0.2 * v;
      }
    }
    std::copy(values.begin(), values.end(), state.values(entry).begin());
  }
}

double norm(std::span<const double> values) {
  return std::sqrt(std::inner_product(values.begin(), values.end(), values.begin(), 0.0));
}

/// The model with a 1x1 convolution in front, whose gradient comes through that of the model's input.
ModelSpec with_front(ModelSpec spec) {
  LayerSpec front = conv2d(static_cast<int>(spec.input[0]), 1);
  front.name = "front";
  spec.layers.insert(spec.layers.begin(), front);
  return spec;
}

class ZooTorch {
 public:
  ZooTorch(std::string name, const ModelSpec& spec, std::string_view objective, const Records& records)
      : name_(std::move(name)),
        spec_(with_front(spec)),
        objective_(make_objective(objective)),
        records_(records),
        state_(state_layout(spec_)) {
    fill(state_, name_);
  }

  void evaluate() {
    Network network(spec_, kBatch);
    network.load(state_);
    expect_near(network.forward({}, input(0)), "evaluated");
  }

  void train(std::size_t steps) {
    Network network(spec_, kBatch, {.training = true});
    StateDict gradients(state_.layout_ptr());
    for (std::size_t step = 0; step < steps; ++step) {
      network.load(state_);
      compute(network, step, gradients);
      if (step == 0) expect_state("gradient/", gradients, StateKind::kParameter);
      for (std::size_t i = 0; i < state_.parameters().size(); ++i)
        state_.parameters()[i] -= kLearningRate * gradients.parameters()[i];
      for (std::size_t i = 0; i < state_.buffers().size(); ++i) state_.buffers()[i] += gradients.buffers()[i];
      if (step == 0 && steps == kSteps) expect_state("after/", state_, StateKind::kParameter);
    }
    if (steps == kSteps) expect_state("after/", state_, StateKind::kBuffer);
  }

 private:
  [[nodiscard]] std::vector<float> input(std::size_t step) const {
    const auto count = static_cast<std::size_t>(kBatch * spec_.input.elements());
    std::vector<float> values;
    for (const double v : uniform(name_ + "/input" + std::to_string(step), count))
      values.push_back(static_cast<float>(4 * v));
    return values;
  }

  void compute(Network& network, std::size_t step, StateDict& gradients) const {
    std::vector<std::uint64_t> ids(kBatch);
    std::iota(ids.begin(), ids.end(), 0);
    std::vector<std::int32_t> labels;
    for (int i = 0; i < kBatch; ++i) labels.push_back(i * 7 % spec_.classes);
    const Pass pass{.training = true, .step = step, .sample_ids = ids};
    const auto values = input(step);
    const auto outputs = network.forward(pass, values);
    if (step == 0) expect_near(outputs, "outputs");
    std::vector<float> grad(outputs.size());
    objective_->evaluate(outputs, {.labels = labels}, spec_.classes, 1.0F / kBatch, grad);
    network.backward(pass, grad, gradients);
  }

  void expect_near(std::span<const float> got, const std::string& what) const {
    const auto& expected = records_.at(name_ + "/" + what);
    ASSERT_EQ(got.size(), expected.size());
    const std::vector<double> values(got.begin(), got.end());
    EXPECT_LT(difference(values, expected), kTolerance * norm(expected)) << what;
  }

  void expect_state(const std::string& prefix, const StateDict& state, StateKind kind) const {
    std::vector<double> norms;
    for (const auto& entry : state.layout().entries()) {
      const auto found = records_.find(name_ + "/" + prefix + entry.name);
      if (entry.kind == kind && found != records_.end()) norms.push_back(norm(found->second));
    }
    const double all = norm(norms);
    ASSERT_TRUE(all > 0 || kind == StateKind::kBuffer);
    for (const auto& entry : state.layout().entries()) {
      const auto found = records_.find(name_ + "/" + prefix + entry.name);
      if (entry.kind != kind || found == records_.end()) continue;
      ASSERT_EQ(found->second.size(), state.values(entry).size()) << entry.name;
      const std::vector<double> values(state.values(entry).begin(), state.values(entry).end());
      // A bias before a batch norm has no gradient but rounding.
      const double size = std::max(norm(found->second), 1e-3 * all);
      EXPECT_LT(difference(values, found->second), kTolerance * size) << prefix << entry.name;
    }
  }

  static double difference(std::vector<double> a, std::span<const double> b) {
    for (std::size_t i = 0; i < b.size(); ++i) a[i] -= b[i];
    return norm(a);
  }

  std::string name_;
  ModelSpec spec_;
  std::unique_ptr<Objective> objective_;
  const Records& records_;
  StateDict state_;
};

TEST(ZooTorch, EveryModelAgrees) {
  if (!std::filesystem::exists(IMPART_REFERENCE))
    GTEST_SKIP() << "no reference values: install Debian's python3-torch to compare with PyTorch";
  const auto records = testing_support::read_records(IMPART_REFERENCE);
  enum What { kForward = 0, kGradients = 1, kTraining = kSteps };
  struct Case {
    std::string name, arch;
    Shape input;
    SettingTable settings;
    What what;
  };
  const std::pair<std::string, SettingValue> cifar{"stem", std::string("cifar")};
  const std::pair<std::string, SettingValue> quarter{"width", 0.25};
  const std::pair<std::string, SettingValue> no_dropout{"dropout", 0.0};
  const std::vector<Case> cases{
      {"resnet18", "resnet18", {}, {cifar, quarter}, kTraining},
      {"resnet50", "resnet50", {}, {cifar, quarter}, kTraining},
      {"vgg16", "vgg16", {}, {cifar, quarter, no_dropout}, kTraining},
      {"vgg16_bn", "vgg16_bn", {}, {cifar, quarter, no_dropout}, kTraining},
      {"mobilenet_v2", "mobilenet_v2", {}, {cifar, quarter, no_dropout}, kTraining},
      {"lenet5", "lenet5", {}, {}, kTraining},
      {"mlp", "mlp", {}, {{"hidden", std::vector<std::int64_t>{60, 40}}}, kTraining},
      {"logistic", "logistic", {}, {}, kTraining},
      {"linear", "linear", {}, {}, kTraining},
      {"svm", "svm", {}, {}, kTraining},
      {"cnn", "cnn", {}, {}, kTraining},
      {"resnet18_full", "resnet18", {}, {cifar}, kGradients},
      {"mobilenet_v2_full", "mobilenet_v2", {}, {cifar, no_dropout}, kGradients},
      {"resnet18_imagenet", "resnet18", {3, 64, 64}, {quarter}, kTraining},
      {"resnet50_imagenet", "resnet50", {3, 64, 64}, {quarter}, kForward},
      {"vgg16_imagenet", "vgg16", {3, 64, 64}, {{"width", 0.125}, no_dropout}, kForward},
      {"mobilenet_v2_imagenet", "mobilenet_v2", {3, 96, 96}, {quarter, no_dropout}, kForward},
  };
  for (const auto& [name, arch, input, settings, what] : cases) {
    SCOPED_TRACE(name);
    ZooTorch model(name, zoo_model(arch, input, 10, settings), zoo_objective(arch), records);
    model.evaluate();
    model.train(what);
  }
  for (const auto name : zoo().names()) {
    // The transformer's values are test_torch's, which has a text for it.
    const bool trained = std::ranges::any_of(
        cases, [&](const Case& each) { return each.arch == name && each.what == kTraining; });
    EXPECT_TRUE(trained || name == "transformer") << name;
  }
}

}  // namespace
}  // namespace impart::nn::testing

// Outputs, gradients and three steps of training against PyTorch's, as torch_reference.py has written them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

#include "impart/nn/objective.hpp"
#include "impart/nn/zoo.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

constexpr double kTolerance = 1e-5;
constexpr std::size_t kSteps = 3;

struct Reference {
  std::map<std::string, std::string> texts;
  std::map<std::string, std::vector<float>> values;

  explicit Reference(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::string name;
    std::size_t count = 0;
    while (file >> name >> count) {
      file.get();  // the end of the line
      const bool text = name == "spec" || name == "objective" || name == "frozen";
      std::string bytes(text ? count : count * sizeof(float), '\0');
      file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      if (!file) throw std::runtime_error(path.string() + " ends within '" + name + "'");
      if (text) {
        texts[name] = bytes;
      } else {
        auto& floats = values[name];
        floats.resize(count);
        std::memcpy(floats.data(), bytes.data(), bytes.size());
      }
    }
  }
};

void expect_state(const Reference& reference, const std::string& prefix, const StateDict& state,
                  StateKind kind) {
  for (const auto& entry : state.layout().entries()) {
    if (entry.kind != kind) continue;
    const auto& expected = reference.values.at(prefix + entry.name);
    ASSERT_EQ(expected.size(), state.values(entry).size()) << entry.name;
    EXPECT_LT(relative_difference(state.values(entry), expected), kTolerance) << prefix << entry.name;
  }
}

StateDict state_before(const Reference& reference, const ModelSpec& spec) {
  StateDict state(state_layout(spec));
  for (const auto& entry : state.layout().entries()) {
    const auto& from = reference.values.at("before." + entry.name);
    if (from.size() != state.values(entry).size()) throw std::runtime_error("another size of " + entry.name);
    std::copy(from.begin(), from.end(), state.values(entry).begin());
  }
  return state;
}

void compare(const Reference& reference) {
  const auto spec = model_spec_from_json(reference.texts.at("spec"));
  auto state = state_before(reference, spec);
  const std::span<const float> inputs = reference.values.at("inputs");
  const auto& labels = reference.values.at("labels");
  const auto batch = static_cast<std::size_t>(reference.values.at("batch")[0]);
  const std::size_t sample = inputs.size() / (kSteps * batch);
  const std::size_t rows = labels.size() / kSteps;  // of outputs: one a sample, or one for each of its steps
  std::vector<std::uint64_t> ids(batch);
  std::iota(ids.begin(), ids.end(), 0);

  std::istringstream names(reference.texts.at("frozen"));
  const std::set<std::string> frozen{std::istream_iterator<std::string>(names), {}};
  const auto trainable = [&](const std::string& name) {
    return !frozen.contains(name.substr(0, name.rfind('.')));
  };
  Network network(spec, static_cast<std::int64_t>(batch), {.training = true, .trainable = trainable});
  const auto objective = make_objective(reference.texts.at("objective"));
  const auto share = 1.0F / static_cast<float>(rows);
  StateDict gradients(state.layout_ptr());
  for (std::size_t step = 0; step < kSteps; ++step) {
    network.load(state);
    const Pass pass{.training = true, .step = step, .sample_ids = ids};
    const auto outputs = network.forward(pass, inputs.subspan(step * batch * sample, batch * sample));
    const auto from = labels.begin() + static_cast<std::ptrdiff_t>(step * rows);
    const std::vector<std::int32_t> wanted(from, from + static_cast<std::ptrdiff_t>(rows));
    std::vector<float> grad(outputs.size());
    const double loss = objective->evaluate(outputs, {.labels = wanted}, spec.classes, share, grad);
    if (step == 0) {
      EXPECT_NEAR(loss / static_cast<double>(rows) / static_cast<double>(reference.values.at("loss")[0]), 1,
                  kTolerance);
      EXPECT_LT(relative_difference(outputs, reference.values.at("outputs")), kTolerance);
    }
    network.backward(pass, grad, gradients);
    if (step == 0) expect_state(reference, "gradient.", gradients, StateKind::kParameter);
    const float rate = reference.values.at("learning_rate")[0];
    for (std::size_t i = 0; i < state.parameters().size(); ++i)
      state.parameters()[i] -= rate * gradients.parameters()[i];
    for (std::size_t i = 0; i < state.buffers().size(); ++i) state.buffers()[i] += gradients.buffers()[i];
  }
  expect_state(reference, "after.", state, StateKind::kParameter);
  expect_state(reference, "after.", state, StateKind::kBuffer);
  Network evaluation(spec, static_cast<std::int64_t>(batch));
  evaluation.load(state);
  const auto evaluated = evaluation.forward({}, inputs.first(batch * sample));
  EXPECT_LT(relative_difference(evaluated, reference.values.at("evaluated")), kTolerance);
}

/// The kinds of layers whose outputs and gradients a case shows. That of its input a layer shows when a layer
/// with parameters stands before it; indices have none.
std::set<std::string> kinds_shown(const Reference& reference) {
  const auto spec = model_spec_from_json(reference.texts.at("spec"));
  const auto sources = layer_inputs(spec);
  std::vector<bool> trained;  // the layer, or one that it reads
  std::set<std::string> kinds;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const auto& layer = spec.layers[i];
    const bool below = std::ranges::any_of(
        sources[i], [&](int source) { return source >= 0 && trained[static_cast<std::size_t>(source)]; });
    if (below || layer.kind == "embedding") kinds.insert(layer.kind);
    const auto own = [&](const auto& gradient) {
      return gradient.first.starts_with("gradient." + layer.name + ".");
    };
    trained.push_back(below || std::ranges::any_of(reference.values, own));
  }
  return kinds;
}

TEST(Torch, EveryCaseAgrees) {
  std::vector<std::filesystem::path> paths;
  if (std::filesystem::is_directory(IMPART_TORCH_REFERENCE)) {
    for (const auto& file : std::filesystem::directory_iterator(IMPART_TORCH_REFERENCE)) {
      if (file.path().extension() == ".bin") paths.push_back(file.path());
    }
  }
  if (paths.empty())
    GTEST_SKIP() << "no reference values: install Debian's python3-torch to compare with PyTorch";
  std::set<std::string> shown;
  for (const auto& path : paths) {
    SCOPED_TRACE(path.stem().string());
    const Reference reference(path);
    compare(reference);
    shown.merge(kinds_shown(reference));
  }
  for (const auto kind : layers().names()) EXPECT_TRUE(shown.contains(std::string(kind))) << kind;
}

// The first steps of the zoo's transformer on a text, from the same weights and with the same batches.
TEST(Torch, ACharacterModelLearnsAsThere) {
  const std::filesystem::path path = std::filesystem::path(IMPART_TORCH_REFERENCE) / "characters.values";
  if (!std::filesystem::exists(path))
    GTEST_SKIP() << "no reference values: install Debian's python3-torch to compare with PyTorch";
  const Reference reference(path);
  const auto number = [&](const char* name) { return static_cast<int>(reference.values.at(name)[0]); };
  const int classes = number("classes");
  const auto spec = zoo_model("transformer", {number("context")}, classes,
                              {{"width", whole(number("width"))},
                               {"heads", whole(number("heads"))},
                               {"layers", whole(number("layers"))}});
  auto state = state_before(reference, spec);
  StateDict gradients(state.layout_ptr());
  const auto batch = static_cast<std::size_t>(number("batch"));
  std::vector<std::uint64_t> ids(batch);
  std::iota(ids.begin(), ids.end(), 0);
  Network network(spec, number("batch"), {.training = true, .shards = 4});
  std::vector<double> losses;
  for (std::size_t step = 0; reference.values.contains(fmt::format("loss.{}", step)); ++step) {
    network.load(state);
    const Pass pass{.training = true, .step = step, .sample_ids = ids};
    const auto outputs = network.forward(pass, reference.values.at(fmt::format("inputs.{}", step)));
    const auto& labels = reference.values.at(fmt::format("labels.{}", step));
    const std::vector<std::int32_t> wanted(labels.begin(), labels.end());
    const auto rows = static_cast<double>(wanted.size());
    std::vector<float> grad(outputs.size());
    const double loss = make_cross_entropy()->evaluate(outputs, {.labels = wanted}, classes,
                                                       static_cast<float>(1 / rows), grad);
    if (step == 0) {
      EXPECT_LT(relative_difference(outputs, reference.values.at("outputs")), kTolerance);
    }
    network.backward(pass, grad, gradients);
    if (step == 0) expect_state(reference, "gradient.", gradients, StateKind::kParameter);
    losses.push_back(loss / rows);
    const auto there = static_cast<double>(reference.values.at(fmt::format("loss.{}", step))[0]);
    EXPECT_NEAR(losses.back() / there, 1, 1e-4) << "step " << step;
    for (std::size_t i = 0; i < state.parameters().size(); ++i)
      state.parameters()[i] -= reference.values.at("learning_rate")[0] * gradients.parameters()[i];
    if (step == 0) expect_state(reference, "after.", state, StateKind::kParameter);
  }
  ASSERT_EQ(losses.size(), 20U);
  EXPECT_LT(losses.back(), 0.85 * losses.front());
}

}  // namespace
}  // namespace impart::nn::testing

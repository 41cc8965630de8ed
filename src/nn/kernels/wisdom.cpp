#include "nn/kernels/wisdom.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "impart/core/clock.hpp"
#include "impart/core/digest.hpp"
#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/wisdom.hpp"

namespace impart::nn {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "impart-wisdom";
constexpr std::array<std::string_view, 3> kDirections{"forward", "data", "weights"};
constexpr int kRuns = 5;

struct Wisdom {
  std::map<std::string, std::array<std::string, 3>, std::less<>> choices;  // by shape, of each direction
  std::string digest;
};

Wisdom& in_use() {
  static Wisdom wisdom;
  return wisdom;
}

thread_local ChoiceRecorder::Choices* recorder = nullptr;

// Whatever the choice may depend on: not the batch, and not how it is cut.
std::string shape_key(const ConvGeometry& g) {
  return fmt::format("{}x{}x{} to {}x{}x{}, kernel {}, stride {}, padding {}, dilation {}, groups {}",
                     g.channels, g.height, g.width, g.filters, g.out_height, g.out_width, g.window.kernel,
                     g.window.stride, g.window.padding, g.window.dilation, g.groups);
}

AlignedBuffer<float> some_values(std::int64_t count) {
  AlignedBuffer<float> values(static_cast<std::size_t>(count));
  Rng rng(0, "tune");
  for (auto& v : values.span()) v = static_cast<float>(rng.uniform_double() - 0.5);
  return values;
}

/// The least of several runs' seconds, after one that is not measured.
template <class Run>
double seconds_of(Run run) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i <= kRuns; ++i) {
    const auto start = Clock::now();
    run();
    const double seconds = seconds_since(start);
    if (i > 0) best = std::min(best, seconds);
  }
  return best;
}

/// Seconds of one candidate, packing of weights included, as in a step of training.
double measure(const ConvCandidate& candidate, const ConvGeometry& g, ConvDirection direction) {
  const auto weights = g.filters * g.taps();
  auto x = some_values(g.shards * g.shard_input());
  auto y = some_values(g.shards * g.shard_output());
  auto weight = some_values(weights);
  Scratch scratch;
  if (direction == ConvDirection::kForward) {
    const auto kernel = candidate.forward(g, {}, scratch);
    scratch.allocate();
    return seconds_of([&] {
      kernel->load(weight.data(), nullptr);
      kernel->run(x.data(), y.data());
    });
  }
  if (direction == ConvDirection::kData) {
    const auto kernel = candidate.data(g, {}, scratch);
    scratch.allocate();
    return seconds_of([&] {
      kernel->load(weight.data());
      kernel->run(y.data(), x.data(), false);
    });
  }
  const auto kernel = candidate.weights(g, {}, scratch);
  scratch.allocate();
  return seconds_of([&] { kernel->run(x.data(), y.data(), weight.data(), nullptr); });
}

std::string_view fastest(const ConvGeometry& g, ConvDirection direction) {
  std::string_view name;
  double least = std::numeric_limits<double>::infinity();
  for (const auto& candidate : conv_candidates()) {
    if (!candidate.serves(g, direction)) continue;
    const double seconds = measure(candidate, g, direction);
    if (seconds < least) {
      least = seconds;
      name = candidate.name;
    }
  }
  return name;
}

std::string digest_of(const Json& wisdom) {
  Hasher hasher;
  hasher.text(wisdom.at("isa").get<std::string>()).text(wisdom.at("convolutions").dump());
  return hasher.finish().hex();
}

// Throws when a later network could not do as it says.
Wisdom read(const Json& json) {
  Wisdom wisdom;
  if (json.at("format") != kFormat) throw Error("not a wisdom file", ErrorKind::kUsage);
  const auto isa = json.at("isa").get<std::string>();
  if (isa != kernel_isa()) {
    throw Error("the wisdom is of another instruction set", ErrorKind::kUsage)
        .expected(kernel_isa())
        .got(isa)
        .hint("measure this machine with impart bench --tune");
  }
  wisdom.digest = digest_of(json);
  if (json.at("digest") != wisdom.digest) {
    throw Error("the wisdom was changed after it was measured", ErrorKind::kUsage)
        .expected(wisdom.digest)
        .got(json.at("digest").get<std::string>());
  }
  const auto candidates = conv_candidates();
  for (const auto& [shape, directions] : json.at("convolutions").items()) {
    for (std::size_t d = 0; d < kDirections.size(); ++d) {
      const auto found = directions.find(kDirections[d]);
      if (found == directions.end()) continue;
      const auto name = found->get<std::string>();
      const bool known = std::ranges::any_of(candidates, [&](const auto& c) { return c.name == name; });
      if (!known) throw Error(fmt::format("there is no kernel '{}'", name), ErrorKind::kUsage).at(shape);
      wisdom.choices[shape][d] = name;
    }
  }
  return wisdom;
}

}  // namespace

ChoiceRecorder::ChoiceRecorder(Choices& choices) { recorder = &choices; }
ChoiceRecorder::~ChoiceRecorder() { recorder = nullptr; }

void ChoiceRecorder::note(const ConvGeometry& g, ConvDirection direction) {
  if (recorder != nullptr) recorder->emplace_back(g, direction);
}

std::string_view wisdom_choice(const ConvGeometry& g, ConvDirection direction) {
  const auto& choices = in_use().choices;
  if (choices.empty()) return {};
  const auto found = choices.find(shape_key(g));
  return found == choices.end() ? std::string_view() : found->second.at(static_cast<std::size_t>(direction));
}

std::string tune(const ModelSpec& spec, std::int64_t batch, std::int64_t shards) {
  use_one_kernel_thread();
  ChoiceRecorder::Choices choices;
  {
    const ChoiceRecorder recording(choices);
    Network::memory_of(spec, batch, {.training = true, .shards = shards});
  }
  Json convolutions = Json::object();
  for (const auto& [g, direction] : choices) {
    auto& names = convolutions[shape_key(g)];
    const auto key = kDirections.at(static_cast<std::size_t>(direction));
    if (!names.contains(key)) names[key] = fastest(g, direction);
  }
  Json wisdom{{"format", kFormat}, {"isa", kernel_isa()}, {"convolutions", std::move(convolutions)}};
  wisdom["digest"] = digest_of(wisdom);
  return wisdom.dump(2) + "\n";
}

void use_wisdom(std::string_view text) {
  if (text.empty()) {
    in_use() = {};
    return;
  }
  try {
    in_use() = read(Json::parse(text));
  } catch (const nlohmann::json::exception& e) {
    throw Error("the wisdom is not what impart bench --tune writes", ErrorKind::kUsage).got(e.what());
  }
}

std::string kernel_choice() {
  return in_use().digest.empty() ? "the fixed rule" : fmt::format("wisdom {}", in_use().digest);
}

}  // namespace impart::nn

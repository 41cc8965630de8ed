// bench: the speed of training, on random samples.

#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"
#include "impart/data/batch_loader.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/zoo.hpp"
#include "impart/stages/commands.hpp"
#include "impart/stages/deck.hpp"
#include "impart/stages/process.hpp"
#include "impart/train/gradient_engine.hpp"
#include "impart/train/optimizer.hpp"
#include "stages/deck_argument.hpp"

namespace impart::stages {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kShards = 8;
constexpr std::int64_t kWarmUpSteps = 5;
constexpr std::int64_t kDistinctSamples = 256;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Random samples with random labels; a few distinct ones stand for many, so that memory is the network's.
class RandomDataset final : public data::Dataset {
 public:
  RandomDataset(Shape shape, int classes, std::int64_t size)
      : shape_(std::move(shape)),
        classes_(classes),
        size_(size),
        values_(shape_.with_batch(kDistinctSamples)) {
    Rng rng(0, "bench samples");
    for (auto& value : values_.values()) value = static_cast<float>(rng.normal());
    for (std::int64_t i = 0; i < kDistinctSamples; ++i) {
      labels_.push_back(static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(classes))));
    }
  }

  [[nodiscard]] std::int64_t size() const override { return size_; }
  [[nodiscard]] const Shape& sample_shape() const override { return shape_; }
  [[nodiscard]] int classes() const override { return classes_; }
  void get(std::int64_t i, std::span<float> out) const override {
    const auto from =
        values_.values().subspan(static_cast<std::size_t>(i % kDistinctSamples) * out.size(), out.size());
    std::copy(from.begin(), from.end(), out.begin());
  }
  [[nodiscard]] std::int32_t label(std::int64_t i) const override {
    return labels_[static_cast<std::size_t>(i % kDistinctSamples)];
  }
  [[nodiscard]] std::uint64_t id(std::int64_t i) const override { return static_cast<std::uint64_t>(i); }
  [[nodiscard]] const Digest& digest(std::int64_t) const override { return digest_; }

 private:
  Shape shape_;
  int classes_;
  std::int64_t size_;
  Tensor values_;
  std::vector<std::int32_t> labels_;
  Digest digest_;
};

struct Timing {
  double total = 0;
  double input = 0;
  double update = 0;
  train::EngineSeconds engine;
};

Timing measure(const comm::Comm& comm, const nn::ModelSpec& spec, const Options& options) {
  const auto objective = nn::make_cross_entropy();
  auto state = nn::initial_state(spec, 0);
  train::GradientEngine engine(comm, spec, *objective, {options.batch, kShards, options.threads, 0, {}});
  train::OptimizerOptions sgd;
  sgd.momentum = 0.9;
  train::Optimizer optimizer(sgd, state.layout_ptr(), {});
  const auto steps = kWarmUpSteps + options.steps;
  const auto dataset = std::make_shared<RandomDataset>(spec.input, spec.classes, options.batch * steps);
  data::BatchLoader loader(dataset, {options.batch, kShards, engine.range(), 0, true});

  Timing timing;
  train::EngineSeconds warm;
  auto start = Clock::now();
  for (std::int64_t step = 0; step < steps; ++step) {
    if (step == kWarmUpSteps) {
      comm.barrier();
      timing = {};
      warm = engine.seconds();
      start = Clock::now();
    }
    auto lap = Clock::now();
    const auto& batch = loader.next();
    timing.input += since(lap);
    const auto outcome = engine.compute(state, batch, false);
    if (!std::isfinite(outcome.loss)) throw Error("the loss is not finite").at("bench").collective();
    lap = Clock::now();
    optimizer.update(state, engine.gradient(), 1.0, step);
    timing.update += since(lap);
  }
  comm.barrier();
  timing.total = since(start);
  const auto end = engine.seconds();
  timing.engine = {end.forward - warm.forward, end.backward - warm.backward,
                   end.communication - warm.communication};
  return timing;
}

}  // namespace

std::string bench(const comm::Comm& comm, const Options& options) {
  if (options.batch % kShards != 0) {
    throw Error("the batch cannot be cut into equal shards", ErrorKind::kUsage)
        .at("--batch")
        .expected(fmt::format("a multiple of {}", kShards))
        .got(std::to_string(options.batch))
        .collective();
  }
  comm::agree(comm, "bench", [&] { comm::check_rank_count(comm.size(), kShards); });
  const auto spec = model_argument(comm, options.model);
  const auto timing = measure(comm, spec, options);

  double peak = peak_memory_mb();
  comm.max_in_place(std::span(&peak, 1), "peak memory");
  const auto steps = static_cast<double>(options.steps);
  const auto milliseconds = [&](double seconds) { return 1000 * seconds / steps; };
  const nlohmann::ordered_json result = {
      {"model", options.model},
      {"batch", options.batch},
      {"ranks", comm.size()},
      {"threads", options.threads},
      {"parameters", nn::state_layout(spec)->parameter_count()},
      {"samples_per_second", static_cast<double>(options.batch) * steps / timing.total},
      {"step_ms", milliseconds(timing.total)},
      {"forward_ms", milliseconds(timing.engine.forward)},
      {"backward_ms", milliseconds(timing.engine.backward)},
      {"communication_ms", milliseconds(timing.engine.communication)},
      {"update_ms", milliseconds(timing.update)},
      {"input_ms", milliseconds(timing.input)},
      {"peak_rss_mb", peak},
  };
  if (options.json) return result.dump() + "\n";
  std::string text;
  for (const auto& [key, value] : result.items()) {
    text +=
        value.is_number_float()
            ? fmt::format("{:<20} {:.3f}\n", key, value.get<double>())
            : fmt::format("{:<20} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text;
}

}  // namespace impart::stages

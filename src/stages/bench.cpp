// bench: the speed of training, on random samples.

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "impart/comm/tree_reducer.hpp"
#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/zoo.hpp"
#include "impart/stages/commands.hpp"
#include "impart/stages/deck.hpp"
#include "impart/stages/process.hpp"
#include "impart/train/trainer.hpp"
#include "stages/deck_argument.hpp"

namespace impart::stages {

namespace {

constexpr int kShards = 8;
constexpr std::int64_t kWarmUpSteps = 5;
constexpr std::int64_t kDistinctSamples = 256;

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

/// Seconds of `steps` steps of the Trainer.
train::TrainSeconds measure(const comm::Comm& comm, const nn::ModelSpec& spec, const Options& options,
                            std::int64_t steps) {
  train::TrainerOptions trainer;
  trainer.stage = "bench";
  trainer.batch_size = options.batch;
  trainer.shards = kShards;
  trainer.threads = options.threads;
  trainer.optimizer.momentum = 0.9;
  const auto objective = nn::make_cross_entropy();
  const train::TrainTask task{
      .spec = spec,
      .objective = *objective,
      .train = std::make_shared<RandomDataset>(spec.input, spec.classes, options.batch * steps),
      .validation = nullptr,
      .on_event = {},
      .stop = nullptr,
      .state_directory = {},
      .state_key = {}};
  auto state = nn::initial_state(spec, 0);
  comm.barrier();
  return train::train(comm, trainer, task, state).seconds;
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
  // The first steps compile kernels and touch memory for the first time.
  measure(comm, spec, options, kWarmUpSteps);
  const auto seconds = measure(comm, spec, options, options.steps);

  // The slowest rank's time, the largest rank's memory.
  std::array slowest{seconds.compute + seconds.communication + seconds.input, peak_memory_mb()};
  comm.max_in_place(std::span<double>(slowest), "bench");
  const auto [total, peak] = slowest;
  const auto steps = static_cast<double>(options.steps);
  const auto milliseconds = [&](double part) { return 1000 * part / steps; };
  const nlohmann::ordered_json result = {
      {"model", options.model},
      {"batch", options.batch},
      {"ranks", comm.size()},
      {"threads", options.threads},
      {"parameters", nn::state_layout(spec)->parameter_count()},
      {"samples_per_second", static_cast<double>(options.batch) * steps / total},
      {"step_ms", milliseconds(total)},
      {"forward_ms", milliseconds(seconds.forward)},
      {"backward_ms", milliseconds(seconds.backward)},
      {"communication_ms", milliseconds(seconds.communication)},
      {"update_ms", milliseconds(seconds.update)},
      {"input_ms", milliseconds(seconds.input)},
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

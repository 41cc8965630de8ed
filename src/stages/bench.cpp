// bench: the speed of training, on random samples.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <nlohmann/json.hpp>

#include "impart/comm/shards.hpp"
#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/wisdom.hpp"
#include "impart/nn/zoo.hpp"
#include "impart/parallel/tensor_plan.hpp"
#include "impart/stages/commands.hpp"
#include "impart/stages/deck.hpp"
#include "impart/stages/process.hpp"
#include "impart/train/gradient_engine.hpp"
#include "impart/train/trainer.hpp"
#include "stages/deck_argument.hpp"

namespace impart::stages {

namespace {

constexpr std::int64_t kWarmUpSteps = 5;
constexpr std::int64_t kDistinctSamples = 256;

// Random samples with random labels; a few distinct ones stand for many, so that memory is the network's.
class RandomDataset final : public data::Dataset {
 public:
  RandomDataset(const nn::ModelSpec& spec, std::int64_t size)
      : shape_(spec.input),
        classes_(spec.classes),
        size_(size),
        values_(shape_.with_batch(kDistinctSamples)) {
    const auto output = nn::check_model(spec).back();
    if (output.rank() == 2) labels_per_sample_ = output[0];
    const auto classes = static_cast<std::uint64_t>(classes_);
    const bool words = spec.layers.front().kind == "embedding";  // which reads indices
    Rng rng(0, "bench samples");
    for (auto& value : values_.values()) {
      value = words ? static_cast<float>(rng.below(classes)) : static_cast<float>(rng.normal());
    }
    for (std::int64_t i = 0; i < kDistinctSamples * labels_per_sample_; ++i) {
      labels_.push_back(static_cast<std::int32_t>(rng.below(classes)));
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
    return labels_[static_cast<std::size_t>(i % kDistinctSamples * labels_per_sample_)];
  }
  [[nodiscard]] std::int64_t labels_per_sample() const override { return labels_per_sample_; }
  void labels(std::int64_t i, std::span<std::int32_t> out) const override {
    std::copy_n(labels_.begin() + i % kDistinctSamples * labels_per_sample_, out.size(), out.begin());
  }
  [[nodiscard]] std::uint64_t id(std::int64_t i) const override { return static_cast<std::uint64_t>(i); }
  [[nodiscard]] const Digest& digest(std::int64_t) const override { return digest_; }

 private:
  Shape shape_;
  int classes_;
  std::int64_t size_;
  Tensor values_;
  std::int64_t labels_per_sample_ = 1;  // of a sequence: one for each step
  std::vector<std::int32_t> labels_;
  Digest digest_;
};

std::unique_ptr<nn::Objective> objective_of(const std::string& model) {
  const bool known = model.find(':') == std::string::npos;
  return nn::make_objective(known ? nn::zoo_objective(model) : "cross_entropy");
}

/// Seconds of `steps` steps of the Trainer.
train::TrainSeconds measure(const comm::Comm& comm, const nn::ModelSpec& spec, const Options& options,
                            std::int64_t steps) {
  train::TrainerOptions trainer;
  trainer.stage = "bench";
  trainer.batch_size = options.batch;
  trainer.shards = options.shards;
  trainer.threads = options.threads;
  trainer.overlap = options.overlap;
  trainer.reproducible = options.reproducible;
  trainer.mesh.tensor = options.tensor;
  trainer.optimizer = train::make_optimizer({{"momentum", 0.9}});
  const auto objective = objective_of(options.model);
  const train::TrainTask task{.spec = spec,
                              .objective = *objective,
                              .train = std::make_shared<RandomDataset>(spec, options.batch * steps),
                              .validation = nullptr,
                              .on_event = {},
                              .stop = nullptr,
                              .state_directory = {},
                              .state_key = {}};
  auto state = nn::initial_state(spec, 0);
  comm.barrier();
  return train::train(comm, trainer, task, state).seconds;
}

/// What one thread of a rank computes at once in the Trainer.
struct Portion {
  std::int64_t batch = 0;
  int shards = 1;
};

Portion portion_of(const comm::Comm& comm, const nn::ModelSpec& spec, const Options& options) {
  const train::EngineOptions engine{{.shards = options.shards, .threads = options.threads}, options.batch};
  const auto shards = train::shards_at_once(spec, engine, comm.size());
  return {options.batch / options.shards * shards, shards};
}

/// One rank measures and writes the file, and all use it from then on.
void tune(const comm::Comm& comm, const nn::ModelSpec& spec, const Options& options) {
  std::string wisdom;
  comm::agree(comm, "--tune", [&] {
    if (!comm.is_root()) return;
    const auto [batch, shards] = portion_of(comm, spec, options);
    wisdom = nn::tune(spec, batch, shards);
    std::ofstream file(options.tune);
    if (!(file << wisdom).flush()) throw Error("cannot write the file").at(options.tune.string());
  });
  comm.broadcast(wisdom, 0, "wisdom");
  comm::agree(comm, "--tune", [&] { nn::use_wisdom(wisdom); });
}

/// Layer by layer, a thread's portion, in a network of its own.
std::vector<nn::LayerTime> time_layers(const comm::Comm& comm, const nn::ModelSpec& spec,
                                       const Options& options) {
  const auto [batch, shards] = portion_of(comm, spec, options);
  nn::Network network(spec, batch, {.training = true, .shards = shards});
  const auto state = nn::initial_state(spec, 0);
  StateDict gradients(state.layout_ptr());
  network.load(state);
  const RandomDataset samples(spec, batch);
  std::vector<float> input(static_cast<std::size_t>(batch * spec.input.elements()));
  std::vector<std::uint64_t> ids;
  for (std::int64_t i = 0; i < batch; ++i) {
    const auto size = static_cast<std::size_t>(spec.input.elements());
    samples.get(i, std::span(input).subspan(static_cast<std::size_t>(i) * size, size));
    ids.push_back(samples.id(i));
  }
  for (std::int64_t step = -kWarmUpSteps; step < options.steps; ++step) {
    if (step == 0) network.time_layers();
    const nn::Pass pass{.training = true, .sample_ids = ids};
    const auto output = network.forward(pass, input);
    std::vector<float> gradient(output.begin(), output.end());  // as good as any
    network.backward(pass, gradient, gradients);
  }
  return network.layer_times();
}

/// The table, and a line for all: milliseconds and GFLOP/s of one pass.
std::string describe(const std::vector<nn::LayerTime>& layers, std::int64_t passes) {
  std::size_t width = 5;
  std::size_t kernels = 7;
  nn::LayerTime sum{"all", {}, 0, 0};
  for (const auto& layer : layers) {
    width = std::max(width, layer.layer.size());
    kernels = std::max(kernels, layer.work.kernels.size());
    sum.forward_seconds += layer.forward_seconds;
    sum.backward_seconds += layer.backward_seconds;
    sum.work.forward += layer.work.forward;
    sum.work.backward += layer.work.backward;
  }
  const auto speed = [&](double flops, double seconds) {
    return flops == 0 ? std::string("-")
                      : fmt::format("{:.1f}", flops * static_cast<double>(passes) / seconds / 1e9);
  };
  auto text = fmt::format("\n{:<{}}  {:<{}}  {:>10}  {:>8}  {:>11}  {:>8}\n", "layer", width, "kernels",
                          kernels, "forward ms", "GFLOP/s", "backward ms", "GFLOP/s");
  auto rows = layers;
  rows.push_back(sum);
  for (const auto& row : rows) {
    const double each = 1000 / static_cast<double>(passes);
    text += fmt::format("{:<{}}  {:<{}}  {:>10.3f}  {:>8}  {:>11.3f}  {:>8}\n", row.layer, width,
                        row.work.kernels, kernels, row.forward_seconds * each,
                        speed(row.work.forward, row.forward_seconds), row.backward_seconds * each,
                        speed(row.work.backward, row.backward_seconds));
  }
  return text;
}

nlohmann::ordered_json to_json(const std::vector<nn::LayerTime>& layers, std::int64_t passes) {
  auto list = nlohmann::ordered_json::array();
  const auto each = 1000 / static_cast<double>(passes);
  for (const auto& layer : layers) {
    list.push_back({{"layer", layer.layer},
                    {"kernels", layer.work.kernels},
                    {"forward_ms", layer.forward_seconds * each},
                    {"forward_gflop", layer.work.forward / 1e9},
                    {"backward_ms", layer.backward_seconds * each},
                    {"backward_gflop", layer.work.backward / 1e9}});
  }
  return list;
}

/// Floating-point operations of the products of one step: those of a network for one sample, times the batch.
double step_flops(const nn::ModelSpec& spec, std::int64_t batch) {
  double sum = 0;
  for (const auto& layer : nn::Network::work_of(spec)) sum += layer.forward + layer.backward;
  return sum * static_cast<double>(batch);
}

}  // namespace

std::string bench(const comm::Comm& comm, const Options& options) {
  if (options.batch % options.shards != 0) {
    throw Error("the batch cannot be cut into equal shards", ErrorKind::kUsage)
        .at("--batch")
        .expected(fmt::format("a multiple of {} shards", options.shards))
        .got(std::to_string(options.batch))
        .collective();
  }
  const auto spec = model_argument(comm, options.model);
  comm::agree(comm, "bench", [&] {
    const auto mesh = comm::fit_mesh({.tensor = options.tensor}, comm.size());
    comm::check_rank_count(mesh.data, options.shards);
    parallel::plan_tensors(spec, {0, options.tensor});
    train::check_synced(spec, {{.shards = options.shards}, options.batch});
    if (options.tensor > 1 && (options.layers || !options.tune.empty())) {
      throw Error("--layers and --tune measure a whole model on one rank", ErrorKind::kUsage)
          .expected("--tensor 1")
          .got(std::to_string(options.tensor));
    }
  });
  if (!options.tune.empty()) tune(comm, spec, options);
  // The first steps compile kernels and touch memory for the first time.
  measure(comm, spec, options, kWarmUpSteps);
  const auto seconds = measure(comm, spec, options, options.steps);

  // The slowest rank's time, the largest rank's memory.
  std::array slowest{seconds.compute + seconds.communication + seconds.input, peak_memory_mb()};
  comm.max_in_place(std::span<double>(slowest), "bench");
  const auto [total, peak] = slowest;
  const auto steps = static_cast<double>(options.steps);
  const auto milliseconds = [&](double part) { return 1000 * part / steps; };
  const double gflops = step_flops(spec, options.batch) * steps / total / 1e9;
  // One thread of a rank speaks to the others during a pass.
  const int threads = options.tensor > 1 || nn::synced_layer(spec) ? 1 : options.threads;
  const double peak_gflops = nn::peak_flops() / 1e9 * comm.size() * threads;
  nlohmann::ordered_json result = {
      {"model", options.model},
      {"batch", options.batch},
      {"ranks", comm.size()},
      {"tensor", options.tensor},
      {"threads", threads},
      {"shards", options.shards},
      {"parameters", nn::state_layout(spec)->parameter_count()},
      {"samples_per_second", static_cast<double>(options.batch) * steps / total},
      {"step_ms", milliseconds(total)},
      {"forward_ms", milliseconds(seconds.forward)},
      {"backward_ms", milliseconds(seconds.backward)},
      {"communication_ms", milliseconds(seconds.communication)},
      {"update_ms", milliseconds(seconds.update)},
      {"input_ms", milliseconds(seconds.input)},
      {"peak_rss_mb", peak},
      {"gflops", gflops},
      {"peak_gflops", peak_gflops},
      {"share_of_peak", gflops / peak_gflops},
  };
  std::vector<nn::LayerTime> layers;
  if (options.layers) layers = time_layers(comm, spec, options);
  if (options.json && options.layers) result["layers"] = to_json(layers, options.steps);
  if (options.json) return result.dump() + "\n";
  std::string text;
  for (const auto& [key, value] : result.items()) {
    text +=
        value.is_number_float()
            ? fmt::format("{:<20} {:.3f}\n", key, value.get<double>())
            : fmt::format("{:<20} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  }
  if (options.layers) text += describe(layers, options.steps);
  return text;
}

}  // namespace impart::stages

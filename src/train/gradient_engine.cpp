#include "impart/train/gradient_engine.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <compare>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "impart/comm/tree_reducer.hpp"
#include "impart/core/aligned.hpp"
#include "impart/core/error.hpp"
#include "impart/core/trace.hpp"
#include "train/vector_sums.hpp"

namespace impart::train {

namespace {

/// What travels behind the gradient through the same tree: one cache line.
enum Tail : std::size_t { kLoss = 0, kWeight = 1, kLabels = 2, kStop = 3, kTailSize = 16 };

/// Activations and scratch of one pass may always take this much.
constexpr std::size_t kPassBytes = std::size_t{128} << 20;

/// Adds up the seconds of what runs while it lives, and shows it in a trace.
class Stopwatch {
 public:
  Stopwatch(double& seconds, const char* what) : seconds_(seconds), span_(what) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  trace::Span span_;
  Clock::time_point start_ = Clock::now();
};

/// Threads that share a rank's shards, and how many shards each has.
struct ThreadPlan {
  int threads = 1;
  int shards = 1;
};

ThreadPlan plan_threads(const EngineOptions& options, int ranks) {
  const int mine = comm::shards_of_rank(0, ranks, options.shards).size();
  const int threads = comm::largest_rank_count(mine, options.threads);
  return {threads, mine / threads};
}

}  // namespace

// All of a thread's, as far as activations do not grow far beyond what the parameters take anyway.
int shards_at_once(const nn::ModelSpec& spec, const EngineOptions& options, int ranks) {
  // Only then is what a thread has a whole part of the tree, with halves of its own.
  if (!std::has_single_bit(static_cast<unsigned>(options.shards))) return 1;
  int shards = plan_threads(options, ranks).shards;
  const auto one = nn::Network::memory_of(spec, options.batch_size / options.shards,
                                          {.training = true, .trainable = options.trainable, .tail = true});
  const auto limit = kPassBytes + 4 * nn::state_layout(spec)->arena_size() * sizeof(float);
  while (shards > 1 && one.activations * static_cast<std::size_t>(shards) > limit) shards /= 2;
  return shards;
}

/// One thread's networks (one for each arrangement of a batch that has come up) and partial sums.
struct Worker {
  struct Arrangement {
    std::int64_t shard_size = 0;
    int shards = 1;  // computed at once
    friend auto operator<=>(const Arrangement&, const Arrangement&) = default;
  };
  struct Replica {
    nn::Network network;
    std::int64_t loaded = -1;  // the round whose values it holds
  };

  std::map<Arrangement, Replica> replicas;
  std::vector<AlignedBuffer<float>> storage;
  std::vector<std::span<float>> scratch;  // views on storage
  std::vector<float> grad_output;
  std::vector<float> tails;  // of each shard
  double forward_seconds = 0;
  double backward_seconds = 0;
};

struct GradientEngine::Impl {
  Impl(const comm::Comm& c, const nn::ModelSpec& s, const nn::Objective& o, EngineOptions opt)
      : comm(c),
        spec(s),
        objective(o),
        options(std::move(opt)),
        layout(nn::state_layout(spec)),
        range((comm::check_rank_count(comm.size(), options.shards),
               comm::shards_of_rank(comm.rank(), comm.size(), options.shards))),
        reducer(comm, options.shards),
        team(plan_threads(options, comm.size()).threads),
        workers(static_cast<std::size_t>(team.size())) {
    if (options.batch_size < 1 || options.batch_size % options.shards != 0) {
      throw Error("the batch cannot be cut into equal shards", ErrorKind::kUsage)
          .at("batch_size")
          .expected("a multiple of " + std::to_string(options.shards) + " shards")
          .got(std::to_string(options.batch_size));
    }
    const auto shard_size = options.batch_size / options.shards;
    at_once = shards_at_once(spec, options, comm.size());
    team.run([&](int w) {
      nn::use_one_kernel_thread();
      auto& worker = workers[static_cast<std::size_t>(w)];
      make_room(w, at_once);
      replica(worker, {shard_size, at_once});
    });
    find_parts();
    gradient = StateDict::view(layout, workers[0].scratch[0].first(layout->arena_size()));
  }

  /// The shards of worker `w`, in units of so many.
  [[nodiscard]] comm::ShardRange units_of(int w, int unit) const {
    const auto mine = comm::shards_of_rank(w, team.size(), range.size());
    return {(range.begin + mine.begin) / unit, (range.begin + mine.end) / unit};
  }

  /// Partial sums of the worker's part of the tree.
  void make_room(int w, int unit) {
    auto& worker = workers[static_cast<std::size_t>(w)];
    const int depth = comm::stack_depth(units_of(w, unit), options.shards / unit);
    for (auto have = static_cast<int>(worker.scratch.size()); have < depth; ++have) {
      worker.storage.emplace_back(layout->arena_size() + kTailSize);
      worker.scratch.push_back(worker.storage.back().span());
    }
  }

  Worker::Replica& replica(Worker& worker, Worker::Arrangement arrangement) const {
    auto it = worker.replicas.find(arrangement);
    if (it == worker.replicas.end()) {
      const bool tail = arrangement.shard_size < options.batch_size / options.shards;
      nn::Network network(spec, arrangement.shard_size * arrangement.shards,
                          {true, options.trainable, tail, arrangement.shards});
      it = worker.replicas.emplace(arrangement, Worker::Replica{std::move(network)}).first;
    }
    return it->second;
  }

  static nn::Pass pass_of(const GradientEngine::Impl& engine, const data::Batch& batch,
                          const data::ShardBatch& shard) {
    return {true, engine.options.seed, static_cast<std::uint64_t>(batch.step), shard.sample_ids,
            static_cast<float>(shard.size) / static_cast<float>(batch.global_size)};
  }

  /// Gradient and loss of `count` neighbouring shards, full ones if they are several, into `out`: the arena,
  /// then the tail.
  void compute_shards(Worker& worker, const StateDict& state, const data::Batch& batch, int first, int count,
                      std::span<float> out) const {
    const auto* shards = &batch.shards[static_cast<std::size_t>(first - range.begin)];
    if (shards->size == 0) {
      std::fill(out.begin(), out.end(), 0.0F);
      return;
    }
    const auto number = static_cast<std::size_t>(count);
    auto& [network, loaded] = replica(worker, {shards->size, count});
    auto pass = pass_of(*this, batch, *shards);
    pass.sample_ids = {shards->sample_ids.data(), number * shards->sample_ids.size()};
    std::span<const float> outputs;
    {
      const Stopwatch watch(worker.forward_seconds, "forward");
      if (loaded != round) {
        network.load(state);
        loaded = round;
      }
      outputs = network.forward(pass, {shards->inputs.data(), number * shards->inputs.size()});
    }
    const Stopwatch watch(worker.backward_seconds, "backward");
    worker.grad_output.resize(outputs.size());
    worker.tails.assign(number * kTailSize, 0.0F);
    const auto part = outputs.size() / number;
    const auto labels_each = static_cast<float>(shards->labels.size()) / static_cast<float>(shards->size);
    const float scale = 1.0F / static_cast<float>(batch.global_size) / labels_each;
    for (std::size_t i = 0; i < number; ++i) {
      const nn::Targets targets{.labels = shards[i].labels,
                                .rows = shards[i].rows,
                                .other_labels = shards[i].other_labels,
                                .share = shards[i].share};
      float* tail = worker.tails.data() + i * kTailSize;
      tail[kLoss] =
          static_cast<float>(objective.evaluate(outputs.subspan(i * part, part), targets, spec.classes, scale,
                                                std::span(worker.grad_output).subspan(i * part, part)));
      tail[kWeight] = static_cast<float>(objective.weight(targets));
      tail[kLabels] = static_cast<float>(shards[i].labels.size());
    }
    auto gradients = StateDict::view(layout, out.first(layout->arena_size()));
    network.backward(pass, worker.grad_output, gradients);
    sum_in_tree(worker.tails, kTailSize);
    std::copy_n(worker.tails.begin(), kTailSize, out.last(kTailSize).begin());
  }

  /// Arrays of `size`, one a shard, added in the order in which the shards' gradients are.
  static void sum_in_tree(std::span<float> arrays, std::size_t size) {
    for (std::size_t distance = size; distance < arrays.size(); distance *= 2) {
      for (std::size_t i = 0; i < arrays.size(); i += 2 * distance) {
        for (std::size_t k = i; k < i + size; ++k) arrays[k] += arrays[k + distance];
      }
    }
  }

  /// A batch's gradients were divided by its number of labels before their weights were known.
  void divide_by_weight(double labels, double weight) {
    if (weight == labels) return;
    const auto factor = static_cast<float>(labels / weight);
    for (auto& g : gradient.parameters()) g *= factor;
  }

  /// Adds the penalty's gradient, and returns the penalty.
  double add_penalty(const StateDict& state) {
    if (options.l2 == 0) return 0;
    const auto factor = static_cast<float>(options.l2);
    std::vector<std::string> names;
    std::vector<double> sums;
    for (const auto& entry : layout->entries()) {
      if (entry.kind != StateKind::kParameter || entry.shape.rank() < 2) continue;
      if (options.trainable && !options.trainable(entry.name)) continue;
      const auto w = state.values(entry);
      const auto g = gradient.values(entry);
      names.push_back(entry.name);
      sums.push_back(square_sum(w));
      for (std::size_t i = 0; i < w.size(); ++i) g[i] += factor * w[i];
    }
    if (options.sum_parts) options.sum_parts(names, sums);
    return options.l2 / 2 * std::accumulate(sums.begin(), sums.end(), 0.0);
  }

  /// Where the workers' partial sums are, and what they are of.
  void find_parts() {
    for (int w = 0; w < team.size(); ++w) {
      const auto sums = comm::partial_sums(units_of(w, 1), options.shards);
      for (std::size_t i = 0; i < sums.size(); ++i) {
        part_ranges.push_back(sums[i]);
        parts.push_back(workers[static_cast<std::size_t>(w)].scratch[i]);
      }
    }
    part_sums = comm::additions(part_ranges, options.shards);
    for (const auto sum : comm::partial_sums(range, options.shards)) {
      const auto at = std::ranges::find_if(part_ranges, [&](auto part) { return part.begin == sum.begin; });
      rank_parts.push_back(parts[static_cast<std::size_t>(at - part_ranges.begin())]);
    }
  }

  /// The partial sums of the rank's part of the tree, each worker adding a slice of all.
  void combine_workers(int w) {
    const auto count = static_cast<std::size_t>(team.size());
    const auto size = parts[0].size();
    const auto begin = size * static_cast<std::size_t>(w) / count;
    const auto end = size * (static_cast<std::size_t>(w) + 1) / count;
    for (const auto [into, from] : part_sums) {
      for (std::size_t k = begin; k < end; ++k) parts[into][k] += parts[from][k];
    }
  }

  const comm::Comm& comm;
  nn::ModelSpec spec;
  const nn::Objective& objective;
  EngineOptions options;
  StateLayoutPtr layout;
  comm::ShardRange range;
  comm::TreeReducer<float> reducer;
  WorkerTeam team;
  std::vector<Worker> workers;
  std::vector<comm::ShardRange> part_ranges;  // the workers' partial sums
  std::vector<std::span<float>> parts;
  std::vector<comm::Addition> part_sums;     // between them
  std::vector<std::span<float>> rank_parts;  // what is left
  int at_once = 1;                           // shards that a network computes at once, when all are full
  StateDict gradient;                        // a view on the first worker's sum
  std::int64_t round = 0;
  double communication_seconds = 0;
};

EngineMemory engine_memory(const nn::ModelSpec& spec, const EngineOptions& options, int ranks) {
  const auto [threads, shards] = plan_threads(options, ranks);
  const int at_once = shards_at_once(spec, options, ranks);
  const auto one = nn::Network::memory_of(
      spec, options.batch_size / options.shards * at_once,
      {.training = true, .trainable = options.trainable, .tail = true, .shards = at_once});
  const auto arena = nn::state_layout(spec)->arena_size() * sizeof(float);
  const auto each = static_cast<std::size_t>(threads);
  int depth = 0;
  for (int w = 0; w < ranks * threads; ++w) {
    const comm::ShardRange units{w * shards / at_once, (w + 1) * shards / at_once};
    depth = std::max(depth, comm::stack_depth(units, options.shards / at_once));
  }
  return {each * static_cast<std::size_t>(depth) * arena, each * one.activations, each * one.scratch};
}

GradientEngine::GradientEngine(const comm::Comm& comm, const nn::ModelSpec& spec,
                               const nn::Objective& objective, EngineOptions options)
    : impl_(std::make_unique<Impl>(comm, spec, objective, std::move(options))) {}

GradientEngine::~GradientEngine() = default;

comm::ShardRange GradientEngine::range() const noexcept { return impl_->range; }

StepResult GradientEngine::compute(const StateDict& state, const data::Batch& batch, bool want_stop) {
  auto& engine = *impl_;
  ++engine.round;
  // At the end of an epoch shards are of different sizes, or empty.
  const int unit = batch.global_size == engine.options.batch_size ? engine.at_once : 1;
  engine.team.run([&](int w) {
    auto& worker = engine.workers[static_cast<std::size_t>(w)];
    engine.make_room(w, unit);
    comm::sum_shards(engine.units_of(w, unit), engine.options.shards / unit, worker.scratch,
                     [&](int i, std::span<float> out) {
                       engine.compute_shards(worker, state, batch, i * unit, unit, out);
                     });
  });
  if (engine.team.size() > 1) engine.team.run([&](int w) { engine.combine_workers(w); });

  const auto sum = engine.workers[0].scratch[0];
  const auto tail = sum.last(kTailSize);
  tail[kStop] = want_stop ? 1.0F : 0.0F;
  {
    const Stopwatch watch(engine.communication_seconds, "reduction");
    engine.reducer.sum(engine.rank_parts);
  }
  const auto weight = static_cast<double>(tail[kWeight]);
  const auto loss = static_cast<double>(tail[kLoss]) / weight;
  engine.divide_by_weight(static_cast<double>(tail[kLabels]), weight);
  return {loss + engine.add_penalty(state), weight, tail[kStop] > 0};
}

const StateDict& GradientEngine::gradient() const noexcept { return impl_->gradient; }

std::optional<std::string> GradientEngine::first_not_finite(const StateDict& state,
                                                            const data::Batch& batch) {
  auto& engine = *impl_;
  std::optional<std::string> first;
  for (const auto& shard :
       batch.shards) {  // to the end, for ranks with other parts of the tensors do so, too
    if (shard.size == 0) continue;
    auto& network = engine.replica(engine.workers[0], {shard.size, 1}).network;
    network.load(state);
    const auto pass = Impl::pass_of(engine, batch, shard);
    auto layer = network.first_not_finite(pass, shard.inputs);
    if (!first) first = std::move(layer);
  }
  return first;
}

WorkerTeam& GradientEngine::team() noexcept { return impl_->team; }

EngineSeconds GradientEngine::seconds() const noexcept {
  EngineSeconds result;
  for (const auto& worker : impl_->workers) {
    result.forward = std::max(result.forward, worker.forward_seconds);
    result.backward = std::max(result.backward, worker.backward_seconds);
  }
  result.communication = impl_->communication_seconds;
  return result;
}

}  // namespace impart::train

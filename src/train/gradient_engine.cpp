#include "impart/train/gradient_engine.hpp"

#include <algorithm>
#include <bit>
#include <compare>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "impart/comm/reduction.hpp"
#include "impart/comm/tree_reducer.hpp"
#include "impart/core/aligned.hpp"
#include "impart/core/clock.hpp"
#include "impart/core/error.hpp"
#include "impart/core/summation_tree.hpp"
#include "impart/core/trace.hpp"
#include "impart/train/training_state.hpp"
#include "train/drift.hpp"
#include "train/shard_losses.hpp"

namespace impart::train {

namespace {

/// What travels behind the gradient through the same tree: one cache line.
enum Tail : std::size_t { kLoss = 0, kWeight = 1, kLabels = 2, kStop = 3, kDrift = 4, kTailSize = 16 };
static_assert(kDrift + DriftCheck::kLanes <= kTailSize);

/// Activations and scratch of one pass may always take this much.
constexpr std::size_t kPassBytes = std::size_t{160} << 20;

/// Networks that a thread keeps, each for shards of one size.
constexpr std::size_t kMostReplicas = 8;

/// Adds up the seconds of what runs while it lives, and shows it in a trace.
class Stopwatch {
 public:
  /// `what`: a span of the trace; null when there is one already.
  Stopwatch(double& seconds, const char* what) : seconds_(seconds), span_(what) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() { seconds_ += seconds_since(start_); }

 private:
  double& seconds_;
  trace::Span span_;
  Clock::time_point start_ = Clock::now();
};

/// Threads that share a rank's shards, and how many shards each has.
struct ThreadPlan {
  int threads = 1;
  int shards = 1;
};

bool is_synced(const nn::ModelSpec& spec, const EngineOptions& options) {
  return nn::synced_layer(spec, options.trainable).has_value();
}

/// Samples of a full shard, of all streams.
std::int64_t shard_size(const EngineOptions& options) {
  return std::accumulate(options.more_batches.begin(), options.more_batches.end(), options.batch_size) /
         options.shards;
}

ThreadPlan plan_threads(const nn::ModelSpec& spec, const EngineOptions& options, int ranks) {
  const int mine = comm::shards_of_rank(0, ranks, options.shards).size();
  // Where statistics are summed over ranks, one network computes all, and one thread speaks to the others.
  const int threads = is_synced(spec, options) ? 1 : comm::largest_rank_count(mine, options.threads);
  return {threads, mine / threads};
}

/// How ranks sum the statistics of the batch, while others of their threads sum gradients.
struct StatisticsSums {
  explicit StatisticsSums(const comm::Comm& data) : comm(data.split(0, data.rank())), reducer(comm) {}

  comm::Comm comm;
  comm::TreeReducer<double> reducer;
  double seconds = 0;
};

}  // namespace

void check_synced(const nn::ModelSpec& spec, const EngineOptions& options) {
  const auto layer = nn::synced_layer(spec, options.trainable);
  if (!layer || std::has_single_bit(static_cast<unsigned>(options.shards))) return;
  throw Error("statistics of the whole batch are summed over a power of two of shards", ErrorKind::kUsage)
      .at("layer '" + *layer + "', `sync`")
      .expected("`shards` of 1, 2, 4, 8 ...")
      .got(std::to_string(options.shards))
      .hint("change `shards` in [run], or drop `sync`");
}

// Of a network that computes so many equal shards at once.
nn::NetworkOptions replica_options(const EngineOptions& options, const nn::ObjectiveNeeds& needs,
                                   std::int64_t shards) {
  nn::NetworkOptions build;
  build.training = true;
  build.trainable = options.trainable;
  build.tail = true;
  build.shards = shards;
  build.taps = needs.taps;
  return build;
}

// All of a thread's, as far as activations do not grow far beyond what the parameters take anyway.
int shards_at_once(const nn::ModelSpec& spec, const EngineOptions& options, int ranks,
                   const nn::ObjectiveNeeds& needs) {
  // Only then is what a thread has a whole part of the tree, with halves of its own.
  if (!std::has_single_bit(static_cast<unsigned>(options.shards))) return 1;
  int shards = plan_threads(spec, options, ranks).shards;
  if (is_synced(spec, options)) return shards;
  const auto one =
      nn::Network::memory_of(spec, shard_size(options), replica_options(options, needs, /*shards=*/1));
  const auto limit = kPassBytes + 4 * nn::state_layout(spec)->arena_size() * sizeof(float);
  while (shards > 1 && one.activations * static_cast<std::size_t>(shards) > limit) shards /= 2;
  return shards;
}

/// One thread's networks (one for each arrangement of a batch that has come up) and partial sums.
struct Worker {
  struct Arrangement {
    std::int64_t shard_size = 0;
    int shards = 1;       // computed at once
    bool synced = false;  // as one part of the whole batch
    friend auto operator<=>(const Arrangement&, const Arrangement&) = default;
  };
  struct Replica {
    nn::Network network;
    std::int64_t loaded = -1;  // the round whose values it holds
  };

  std::map<Arrangement, Replica> replicas;
  std::vector<AlignedBuffer<float>> storage;
  std::vector<std::span<float>> stack;  // of partial sums: the reduction's arrays, and then `storage`
  std::unique_ptr<ShardLosses> losses;
  std::vector<float> grad_output;
  std::vector<ShardLoss> shard_losses;
  std::vector<float> tails;  // of each shard
  double forward_seconds = 0;
  double backward_seconds = 0;
  double reduction_seconds = 0;  // meanwhile
};

struct GradientEngine::Impl {
  Impl(const comm::Comm& c, const nn::ModelSpec& s, const nn::Objective& o, EngineOptions opt)
      : comm(c),
        spec(s),
        objective(o),
        options(std::move(opt)),
        needs(objective.needs()),
        layout(training_layout(spec, needs)),
        synced((check_synced(spec, options), is_synced(spec, options))),
        range((comm::check_rank_count(comm.size(), options.shards),
               comm::shards_of_rank(comm.rank(), comm.size(), options.shards))),
        team(plan_threads(spec, options, comm.size()).threads),
        reduction(comm, reduction_options()),
        drift(comm, options.drift_check, !options.has_parts),
        workers(static_cast<std::size_t>(team.size())) {
    if (options.batch_size < 1 || options.batch_size % options.shards != 0) {
      throw Error("the batch cannot be cut into equal shards", ErrorKind::kUsage)
          .at("batch_size")
          .expected("a multiple of " + std::to_string(options.shards) + " shards")
          .got(std::to_string(options.batch_size));
    }
    if (static_cast<int>(options.more_batches.size()) + 1 != needs.streams) {
      throw Error("the objective reads another number of streams of data", ErrorKind::kUsage)
          .expected(std::to_string(needs.streams))
          .got(std::to_string(options.more_batches.size() + 1));
    }
    at_once = shards_at_once(spec, options, comm.size(), needs);
    if (synced && comm.size() > 1) statistics = std::make_unique<StatisticsSums>(comm);
    team.run([&](int w) {
      nn::use_one_kernel_thread();
      auto& worker = workers[static_cast<std::size_t>(w)];
      make_room(w, at_once);
      worker.losses = std::make_unique<ShardLosses>(objective, spec.classes);
      replica(worker, {shard_size(options), at_once, synced});
    });
    gradient = StateDict::view(layout, reduction.sum().first(layout->arena_size()));
  }

  [[nodiscard]] comm::ReductionOptions reduction_options() const {
    return {.shards = options.shards,
            .workers = team.size(),
            .size = layout->arena_size() + kTailSize,
            .parameters = layout->parameter_arena_size(),
            .overlap = options.overlap,
            .reproducible = options.reproducible};
  }

  /// The part of worker `w` in the tree whose leaves are units of so many shards.
  [[nodiscard]] ShardRange units_of(int w, int unit) const {
    const auto mine = reduction.range_of(w);
    return {mine.begin / unit, mine.end / unit};
  }

  /// For the sums of the worker's part of the tree: those that are left when all are added are the
  /// reduction's.
  void make_room(int w, int unit) {
    auto& worker = workers[static_cast<std::size_t>(w)];
    if (worker.stack.empty()) {
      const auto parts = reduction.parts_of(w);
      worker.stack.assign(parts.begin(), parts.end());
    }
    const int depth = stack_depth(units_of(w, unit), reduction.shards() / unit);
    for (auto have = static_cast<int>(worker.stack.size()); have < depth; ++have) {
      worker.storage.emplace_back(layout->arena_size() + kTailSize);
      worker.stack.push_back(worker.storage.back().span());
    }
  }

  Worker::Replica& replica(Worker& worker, Worker::Arrangement arrangement) const {
    auto it = worker.replicas.find(arrangement);
    if (it == worker.replicas.end()) {
      forget_oldest(worker);
      const bool tail = arrangement.shard_size < shard_size(options) || synced != arrangement.synced;
      auto build = replica_options(options, needs, arrangement.shards);
      build.tail = tail;
      if (arrangement.synced) build.peers = peers();
      nn::Network network(spec, arrangement.shard_size * arrangement.shards, std::move(build));
      it = worker.replicas.emplace(arrangement, Worker::Replica{std::move(network)}).first;
    }
    return it->second;
  }

  /// Shards of a size that chance decides come in many arrangements, of which only the last are kept.
  static void forget_oldest(Worker& worker) {
    if (worker.replicas.size() < kMostReplicas) return;
    worker.replicas.erase(
        std::ranges::min_element(worker.replicas, {}, [](const auto& entry) { return entry.second.loaded; }));
  }

  [[nodiscard]] nn::Peers peers() const {
    if (statistics == nullptr) return {};
    return {.parts = comm.size(), .sum = [sums = statistics.get()](std::span<double> values) {
              const Stopwatch watch(sums->seconds, nullptr);
              sums->reducer.sum_in_place(values, "statistics");
            }};
  }
  [[nodiscard]] double statistics_seconds() const { return statistics == nullptr ? 0 : statistics->seconds; }

  /// Whether all shards are there, and full: at the end of an epoch they are of different sizes, or empty.
  [[nodiscard]] bool is_full(const data::Batch& batch) const {
    return batch.global_size == options.batch_size;
  }

  /// Samples of all streams in shard `first` of this rank.
  [[nodiscard]] static std::int64_t samples_of(const data::Batch& batch, std::size_t first) {
    auto samples = batch.shards[first].size;
    for (const auto& stream : batch.more) samples += stream[first].size;
    return samples;
  }

  /// What computes `count` neighbouring shards from `first` on: full ones if they are several.
  [[nodiscard]] Worker::Replica& replica_for(Worker& worker, const data::Batch& batch, std::size_t first,
                                             int count) const {
    return replica(worker, {samples_of(batch, first), count, synced && is_full(batch)});
  }

  [[nodiscard]] nn::Pass pass_of(const data::Batch& batch, std::size_t first, int count) const {
    const auto& shard = batch.shards[first];
    return {true,
            options.seed,
            static_cast<std::uint64_t>(batch.step),
            {shard.sample_ids.data(), static_cast<std::size_t>(count * samples_of(batch, first))},
            static_cast<float>(shard.size) / static_cast<float>(batch.global_size)};
  }

  /// The inputs of `count` neighbouring shards.
  [[nodiscard]] std::span<const float> inputs_of(const data::Batch& batch, std::size_t first,
                                                 int count) const {
    const auto size = count * samples_of(batch, first) * spec.input.elements();
    return {batch.shards[first].inputs.data(), static_cast<std::size_t>(size)};
  }

  /// Gradient and loss of `count` neighbouring shards, full ones if they are several, into `out`: the arena,
  /// then the tail. `final_from` is told what is final meanwhile, as Network::backward does.
  void compute_shards(Worker& worker, const StateDict& state, const data::Batch& batch, std::size_t first,
                      int count, std::span<float> out,
                      const std::function<void(std::size_t)>& final_from) const {
    const auto& shard = batch.shards[first];
    if (shard.size == 0) {
      std::fill(out.begin(), out.end(), 0.0F);
      return;
    }
    const auto number = static_cast<std::size_t>(count);
    auto& [network, loaded] = replica_for(worker, batch, first, count);
    const auto pass = pass_of(batch, first, count);
    std::span<const float> outputs;
    {
      const Stopwatch watch(worker.forward_seconds, "forward");
      if (loaded != round) {
        network.load(state);
        loaded = round;
      }
      const double waited = statistics_seconds();
      outputs = network.forward(pass, inputs_of(batch, first, count));
      worker.forward_seconds -= statistics_seconds() - waited;
    }
    const Stopwatch watch(worker.backward_seconds, "backward");
    worker.grad_output.resize(outputs.size());
    worker.shard_losses.resize(number);
    const auto labels_each = static_cast<float>(shard.labels.size()) / static_cast<float>(shard.size);
    const float scale = 1.0F / static_cast<float>(batch.divisor()) / labels_each;
    auto gradients = StateDict::view(layout, out.first(layout->arena_size()));
    worker.losses->evaluate({batch, first, number, network, pass, outputs}, scale, worker.grad_output,
                            gradients, worker.shard_losses);
    const double waited = statistics_seconds();
    network.backward(pass, worker.grad_output, gradients, final_from);
    worker.backward_seconds -= statistics_seconds() - waited;
    worker.tails.assign(number * kTailSize, 0.0F);
    for (std::size_t i = 0; i < number; ++i) {
      float* tail = worker.tails.data() + i * kTailSize;
      tail[kLoss] = static_cast<float>(worker.shard_losses[i].loss);
      tail[kWeight] = static_cast<float>(worker.shard_losses[i].weight);
      tail[kLabels] = static_cast<float>(worker.shard_losses[i].labels);
    }
    sum_in_tree(std::span(worker.tails), kTailSize);
    std::copy_n(worker.tails.begin(), kTailSize, out.last(kTailSize).begin());
  }

  /// All of worker `w`'s shards, `unit` at a time. Each bucket of the gradients is added to the worker's sums
  /// as soon as it is final, while it is in the cache, and given to the reduction when the last unit is in.
  void compute_units(int w, const StateDict& state, const data::Batch& batch, int unit, bool want_stop) {
    make_room(w, unit);
    auto& worker = workers[static_cast<std::size_t>(w)];
    worker.losses->load(state);
    const auto units = units_of(w, unit);
    const auto buckets = reduction.buckets();
    int shard = comm::shards_of_rank(w, team.size(), range.size()).begin;
    std::size_t top = 0;
    for (int u = units.begin; u < units.end; ++u, shard += unit) {
      const auto folds = static_cast<std::size_t>(folds_after(u, units, reduction.shards() / unit));
      const bool last = u + 1 == units.end;
      std::size_t done = 0;  // buckets
      const auto take_bucket = [&] {
        const auto [begin, end] = buckets[done++];
        for (auto level = top; level > top - folds; --level) {
          const auto into = worker.stack[level - 1];
          const auto from = worker.stack[level];
          for (auto k = begin; k < end; ++k) into[k] += from[k];
        }
      };
      const auto pass_on = [&] {
        if (!last) return;
        const Stopwatch watch(worker.reduction_seconds, "reduction meanwhile");
        reduction.complete(w, done);
        reduction.advance(w);
      };
      const auto out = worker.stack[top];
      compute_shards(worker, state, batch, static_cast<std::size_t>(shard), unit, out,
                     [&](std::size_t final_from) {
                       while (done + 1 < buckets.size() && buckets[done].begin >= final_from) take_bucket();
                       pass_on();
                     });
      const auto tail = out.last<kTailSize>();
      tail[kStop] = want_stop ? 1.0F : 0.0F;
      if (w == 0 && u == units.begin && drift.is_due(batch.step)) {
        drift.put(state, batch.step, tail.subspan<kDrift, DriftCheck::kLanes>());
      }
      while (done < buckets.size()) take_bucket();
      pass_on();
      top = top + 1 - folds;
    }
  }

  /// A batch's gradients were divided by its number of labels before their weights were known.
  void divide_by_weight(double labels, double weight) {
    if (weight == labels) return;
    const auto factor = static_cast<float>(labels / weight);
    for (auto& g : gradient.parameters()) g *= factor;
  }

  const comm::Comm& comm;
  nn::ModelSpec spec;
  const nn::Objective& objective;
  EngineOptions options;
  nn::ObjectiveNeeds needs;
  StateLayoutPtr layout;
  bool synced;  // some layer's statistics are those of the whole batch
  ShardRange range;
  WorkerTeam team;
  comm::Reduction reduction;
  DriftCheck drift;
  std::unique_ptr<StatisticsSums> statistics;  // null when there is nobody to sum with
  std::vector<Worker> workers;
  int at_once = 1;     // shards that a network computes at once, when all are full
  StateDict gradient;  // a view on the reduction's sum
  std::int64_t round = 0;
  double communication_seconds = 0;
};

EngineMemory engine_memory(const nn::ModelSpec& spec, const EngineOptions& options, int ranks,
                           const nn::ObjectiveNeeds& needs) {
  const auto [threads, shards] = plan_threads(spec, options, ranks);
  const int at_once = shards_at_once(spec, options, ranks, needs);
  const auto one =
      nn::Network::memory_of(spec, shard_size(options) * at_once, replica_options(options, needs, at_once));
  const auto arena = training_layout(spec, needs)->arena_size() * sizeof(float);
  const auto each = static_cast<std::size_t>(threads);
  int depth = 0;
  for (int w = 0; w < ranks * threads; ++w) {
    const ShardRange units{w * shards / at_once, (w + 1) * shards / at_once};
    depth = std::max(depth, stack_depth(units, options.shards / at_once));
  }
  return {each * static_cast<std::size_t>(depth) * arena, each * one.activations, each * one.scratch};
}

GradientEngine::GradientEngine(const comm::Comm& comm, const nn::ModelSpec& spec,
                               const nn::Objective& objective, EngineOptions options)
    : impl_(std::make_unique<Impl>(comm, spec, objective, std::move(options))) {}

GradientEngine::~GradientEngine() = default;

ShardRange GradientEngine::range() const noexcept { return impl_->range; }

StepResult GradientEngine::compute(const StateDict& state, const data::Batch& batch, bool want_stop) {
  auto& engine = *impl_;
  ++engine.round;
  const int unit = engine.is_full(batch) ? engine.at_once : 1;
  engine.reduction.begin();
  engine.team.run([&](int w) { engine.compute_units(w, state, batch, unit, want_stop); });
  {
    const Stopwatch watch(engine.communication_seconds, nullptr);
    engine.team.run([&](int w) { engine.reduction.finish(w); });
  }
  engine.reduction.end();

  const auto tail = engine.reduction.sum().last<kTailSize>();
  if (engine.drift.is_due(batch.step)) {
    engine.drift.verify(state, batch.step, tail.subspan<kDrift, DriftCheck::kLanes>());
  }
  const auto weight = static_cast<double>(tail[kWeight]);
  const double loss = weight == 0 ? 0 : static_cast<double>(tail[kLoss]) / weight;  // 0: no samples
  engine.divide_by_weight(static_cast<double>(tail[kLabels]), weight);
  return {loss, weight, tail[kStop] > 0};
}

const StateDict& GradientEngine::gradient() const noexcept { return impl_->gradient; }

StateDict& GradientEngine::gradient() noexcept { return impl_->gradient; }

std::optional<std::string> GradientEngine::first_not_finite(const StateDict& state,
                                                            const data::Batch& batch) {
  auto& engine = *impl_;
  const int unit = engine.is_full(batch) ? engine.at_once : 1;
  const auto number = static_cast<std::size_t>(unit);
  std::optional<std::string> first;
  // To the end, for ranks with other parts of the tensors, or of the batch, do so, too.
  for (std::size_t i = 0; i < batch.shards.size(); i += number) {
    if (batch.shards[i].size == 0) continue;
    auto& network = engine.replica_for(engine.workers[0], batch, i, unit).network;
    network.load(state);
    auto layer = network.first_not_finite(engine.pass_of(batch, i, unit), engine.inputs_of(batch, i, unit));
    if (!first) first = std::move(layer);
  }
  return first;
}

std::string_view GradientEngine::overlap() const noexcept {
  const auto settled = impl_->reduction.settled();
  if (impl_->comm.size() == 1 || settled == comm::Overlap::kAuto) return "";
  return comm::kOverlapNames[static_cast<std::size_t>(settled)];
}

WorkerTeam& GradientEngine::team() noexcept { return impl_->team; }

EngineSeconds GradientEngine::seconds() const noexcept {
  EngineSeconds result;
  for (const auto& worker : impl_->workers) {
    result.forward = std::max(result.forward, worker.forward_seconds);
    result.backward = std::max(result.backward, worker.backward_seconds - worker.reduction_seconds);
  }
  result.communication =
      impl_->communication_seconds + impl_->workers[0].reduction_seconds + impl_->statistics_seconds();
  return result;
}

}  // namespace impart::train

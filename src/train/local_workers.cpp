#include "impart/train/local_workers.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "impart/comm/reduction.hpp"
#include "impart/core/aligned.hpp"
#include "impart/core/clock.hpp"
#include "impart/core/error.hpp"
#include "impart/core/trace.hpp"
#include "impart/core/worker_team.hpp"
#include "impart/nn/network.hpp"

namespace impart::train {

namespace {

/// What travels behind the values: one cache line.
enum Tail : std::size_t { kLoss = 0, kWeight = 1, kStop = 2, kTailSize = 16 };

struct Worker {
  StateDict state;
  Optimizer optimizer;
  TransformChain transforms;
  // Since the start:
  double loss = 0;  // sum over the labels, each as often as it weighs
  double weight = 0;
  std::optional<std::string> not_finite = {};  // the layer where values stopped to be finite
};

/// Of one shard alone, on one thread.
EngineOptions of_a_worker(EngineOptions options) {
  options.batch_size /= options.shards;
  options.shards = 1;
  options.threads = 1;
  options.overlap = comm::Overlap::kBlocking;
  options.reproducible = true;
  options.drift_check = 0;
  return options;
}

void make_step(GradientEngine& engine, Worker& worker, const data::Batch& batch, double factor,
               std::int64_t number) {
  auto result = engine.compute(worker.state, batch, false);
  result.loss +=
      worker.transforms.apply(worker.state, engine.gradient(), number, worker.optimizer.parameters());
  worker.loss += result.loss * result.weight;
  worker.weight += result.weight;
  if (!std::isfinite(result.loss) && !worker.not_finite) {
    worker.not_finite = engine.first_not_finite(worker.state, batch).value_or("");
  }
  worker.optimizer.update(worker.state, engine.gradient(), factor, number);
  const auto changes = engine.gradient().buffers();
  const auto buffers = worker.state.buffers();
  for (std::size_t i = 0; i < buffers.size(); ++i) buffers[i] += changes[i];
}

}  // namespace

struct LocalWorkers::Impl {
  Impl(const comm::Comm& comm, const nn::ModelSpec& spec, const nn::Objective& objective,
       const EngineOptions& engine, const OptimizerRulePtr& optimizer, std::span<const ParameterGroup> groups,
       const std::vector<GradientTransformPtr>& transforms)
      : layout(nn::state_layout(spec)),
        shards(engine.shards),
        range((comm::check_rank_count(comm.size(), shards),
               comm::shards_of_rank(comm.rank(), comm.size(), shards))),
        team(comm::largest_rank_count(range.size(), engine.threads)),
        slots(optimizer->slot_names().size() + transform_slots(transforms)),
        reduction(comm, reduction_options()),
        engines(static_cast<std::size_t>(team.size())) {
    if (engine.batch_size % shards != 0) {
      throw Error("the batch cannot be cut into equal shards", ErrorKind::kUsage)
          .at("batch_size")
          .expected("a multiple of " + std::to_string(shards) + " shards")
          .got(std::to_string(engine.batch_size));
    }
    for (int i = 0; i < range.size(); ++i) {
      workers.push_back(
          {StateDict(layout), Optimizer(optimizer, layout, groups), TransformChain(transforms, layout)});
    }
    team.run([&](int thread) {
      engines[static_cast<std::size_t>(thread)] =
          std::make_unique<GradientEngine>(self, spec, objective, of_a_worker(engine));
    });
    for (int thread = 0; thread < team.size(); ++thread) make_room(thread);
  }

  [[nodiscard]] comm::ReductionOptions reduction_options() const {
    const auto values = (1 + slots) * layout->arena_size();
    return {.shards = shards,
            .workers = team.size(),
            .size = values + kTailSize,
            .parameters = values,
            .overlap = comm::Overlap::kBlocking};
  }

  /// For the partial sums of a thread's shards: those that are left are the reduction's.
  void make_room(int thread) {
    const auto parts = reduction.parts_of(thread);
    auto& stack = stacks.emplace_back(parts.begin(), parts.end());
    const auto depth = comm::stack_depth(reduction.range_of(thread), shards);
    while (static_cast<int>(stack.size()) < depth) {
      stack.push_back(storage.emplace_back(parts[0].size()).span());
    }
  }

  /// The numbers of a thread's workers, on this rank.
  [[nodiscard]] comm::ShardRange workers_of(int thread) const {
    return comm::shards_of_rank(thread, team.size(), range.size());
  }

  /// What `worker` brings to the sum: how far its parameters have come, and all else as it is, so that what
  /// must not be negative, such as a running variance, does not become so by rounding.
  void put(const Worker& worker, const StateDict& state, const TransformChain& transforms,
           std::span<float> out) const {
    const auto now = worker.state.arena();
    const auto parameters = layout->parameter_arena_size();
    put_change(now.first(parameters), state.arena(), out);
    std::copy(now.begin() + static_cast<std::ptrdiff_t>(parameters), now.end(), out.begin() + parameters);
    auto rest = out.subspan(now.size());
    for (const auto& [name, slot] : worker.optimizer.slots()) {
      std::copy(slot.arena().begin(), slot.arena().end(), rest.begin());
      rest = rest.subspan(slot.arena().size());
    }
    for (std::size_t i = 0; i < transforms.slots().size(); ++i) {
      put_change(worker.transforms.slots()[i].second.arena(), transforms.slots()[i].second.arena(), rest);
      rest = rest.subspan(now.size());
    }
    std::fill(rest.begin(), rest.end(), 0.0F);
    rest[kLoss] = static_cast<float>(worker.loss);
    rest[kWeight] = static_cast<float>(worker.weight);
    rest[kStop] = want_stop ? 1.0F : 0.0F;
  }

  static void put_change(std::span<const float> now, std::span<const float> then, std::span<float> out) {
    for (std::size_t i = 0; i < now.size(); ++i) out[i] = now[i] - then[i];
  }
  void add_mean(std::span<const float> changes, std::span<float> values) const {
    const auto count = static_cast<float>(shards);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += changes[i] / count;
  }

  void take(std::span<const float> sum, StateDict& state, Optimizer& optimizer,
            TransformChain& transforms) const {
    const auto count = static_cast<float>(shards);
    const auto values = state.arena();
    const auto parameters = layout->parameter_arena_size();
    add_mean(sum, values.first(parameters));
    for (std::size_t i = parameters; i < values.size(); ++i) values[i] = sum[i] / count;
    std::vector<std::pair<std::string, StateDict>> means;
    for (const auto& [name, slot] : optimizer.slots()) {
      sum = sum.subspan(values.size());
      auto& mean = means.emplace_back(name, StateDict(layout)).second;
      std::ranges::transform(sum.first(values.size()), mean.arena().begin(),
                             [count](float value) { return value / count; });
    }
    optimizer.restore(optimizer.kind(), means);
    for (auto& [name, slot] : transforms.slots()) {
      sum = sum.subspan(values.size());
      add_mean(sum, slot.arena());
    }
  }

  StateLayoutPtr layout;
  int shards;
  comm::ShardRange range;
  WorkerTeam team;
  std::size_t slots;
  comm::Reduction reduction;
  comm::Comm self = comm::Comm::self();
  std::vector<Worker> workers;
  std::vector<std::unique_ptr<GradientEngine>> engines;  // of each thread
  std::vector<AlignedBuffer<float>> storage;
  std::vector<std::vector<std::span<float>>> stacks;  // of each thread: the reduction's arrays, and `storage`
  bool want_stop = false;
  double communication_seconds = 0;
};

LocalWorkers::LocalWorkers(const comm::Comm& comm, const nn::ModelSpec& spec, const nn::Objective& objective,
                           const EngineOptions& engine, const OptimizerRulePtr& optimizer,
                           std::span<const ParameterGroup> groups,
                           const std::vector<GradientTransformPtr>& transforms)
    : impl_(std::make_unique<Impl>(comm, spec, objective, engine, optimizer, groups, transforms)) {}

LocalWorkers::~LocalWorkers() = default;

void LocalWorkers::start(const StateDict& state, const Optimizer& optimizer,
                         const TransformChain& transforms) {
  for (auto& worker : impl_->workers) {
    worker.state.copy_from(state);
    worker.optimizer.restore(optimizer.kind(), optimizer.slots());
    worker.transforms.restore(transforms.slots());
    worker.loss = 0;
    worker.weight = 0;
    worker.not_finite.reset();
  }
  impl_->want_stop = false;
}

void LocalWorkers::step(const data::Batch& batch, double factor, std::int64_t number, bool want_stop) {
  auto& all = *impl_;
  all.want_stop = all.want_stop || want_stop;
  all.team.run([&](int thread) {
    const auto mine = all.workers_of(thread);
    for (auto i = static_cast<std::size_t>(mine.begin); i < static_cast<std::size_t>(mine.end); ++i) {
      const auto& shard = batch.shards[i];
      if (shard.size == 0) continue;
      make_step(*all.engines[static_cast<std::size_t>(thread)], all.workers[i],
                {batch.step, shard.size, {shard}}, factor, number);
    }
  });
}

StepResult LocalWorkers::average(StateDict& state, Optimizer& optimizer, TransformChain& transforms) {
  auto& all = *impl_;
  all.reduction.begin();
  all.team.run([&](int thread) {
    const auto first = all.workers_of(thread).begin;
    const auto range = all.reduction.range_of(thread);
    comm::sum_shards(range, all.shards, all.stacks[static_cast<std::size_t>(thread)],
                     [&](int shard, std::span<float> out) {
                       all.put(all.workers[static_cast<std::size_t>(first + shard - range.begin)], state,
                               transforms, out);
                     });
    all.reduction.complete(thread, all.reduction.buckets().size());
  });
  {
    const trace::Span span("average");
    const auto start = Clock::now();
    all.team.run([&](int thread) { all.reduction.finish(thread); });
    all.communication_seconds += seconds_since(start);
  }
  all.reduction.end();
  const auto sum = all.reduction.sum();
  all.take(sum, state, optimizer, transforms);
  const auto tail = sum.last<kTailSize>();
  const auto weight = static_cast<double>(tail[kWeight]);
  const double loss = weight > 0 ? static_cast<double>(tail[kLoss]) / weight : 0;  // of no sample
  return {loss, weight, tail[kStop] > 0};
}

std::optional<std::string> LocalWorkers::first_not_finite() const {
  for (const auto& worker : impl_->workers) {
    if (worker.not_finite) return worker.not_finite;
  }
  return std::nullopt;
}

EngineSeconds LocalWorkers::seconds() const noexcept {
  EngineSeconds result;
  for (const auto& engine : impl_->engines) {
    const auto seconds = engine->seconds();
    result.forward = std::max(result.forward, seconds.forward);
    result.backward = std::max(result.backward, seconds.backward);
  }
  result.communication = impl_->communication_seconds;
  return result;
}

EngineMemory local_memory(const nn::ModelSpec& spec, const EngineOptions& options, std::size_t slots,
                          int ranks) {
  const int mine = options.shards / ranks;
  const int threads = comm::largest_rank_count(mine, options.threads);
  int depth = 0;
  for (int first = 0; first < options.shards; first += mine / threads) {
    depth = std::max(depth, comm::stack_depth({first, first + mine / threads}, options.shards));
  }
  const auto one = engine_memory(spec, of_a_worker(options), 1);
  const auto each = static_cast<std::size_t>(threads);
  const auto arena = nn::state_layout(spec)->arena_size() * sizeof(float);
  return {each * (one.gradients + static_cast<std::size_t>(depth) * (1 + slots) * arena) + slots * arena,
          each * one.activations, each * one.scratch};
}

}  // namespace impart::train

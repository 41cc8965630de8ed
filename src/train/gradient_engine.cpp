#include "impart/train/gradient_engine.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>
#include <vector>

#include "impart/comm/tree_reducer.hpp"
#include "impart/core/aligned.hpp"
#include "impart/core/error.hpp"
#include "impart/core/worker_team.hpp"
#include "train/vector_sums.hpp"

namespace impart::train {

namespace {

/// What travels behind the gradient through the same tree: one cache line.
enum Tail : std::size_t { kLoss = 0, kWeight = 1, kLabels = 2, kStop = 3, kTailSize = 16 };

/// Adds up the seconds of what runs while it lives.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

/// One thread's networks (one for each size of a shard that has come up) and partial sums.
struct Worker {
  struct Replica {
    nn::Network network;
    std::int64_t loaded = -1;  // the round whose values it holds
  };

  std::map<std::int64_t, Replica> replicas;  // by batch size
  std::vector<AlignedBuffer<float>> storage;
  std::vector<std::span<float>> scratch;  // views on storage
  std::vector<float> grad_output;
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
        reducer(comm),
        team(comm::largest_rank_count(range.size(), options.threads)),
        workers(static_cast<std::size_t>(team.size())) {
    if (options.batch_size < 1 || options.batch_size % options.shards != 0) {
      throw Error("the batch cannot be cut into equal shards", ErrorKind::kUsage)
          .at("batch_size")
          .expected("a multiple of " + std::to_string(options.shards) + " shards")
          .got(std::to_string(options.batch_size));
    }
    const int each = range.size() / team.size();
    team.run([&](int w) {
      nn::use_one_kernel_thread();
      auto& worker = workers[static_cast<std::size_t>(w)];
      for (int i = 0; i < comm::tree_depth(each); ++i) {
        worker.storage.emplace_back(layout->arena_size() + kTailSize);
        worker.scratch.push_back(worker.storage.back().span());
      }
      replica(worker, options.batch_size / options.shards);
    });
    gradient = StateDict::view(layout, workers[0].scratch[0].first(layout->arena_size()));
  }

  Worker::Replica& replica(Worker& worker, std::int64_t batch) const {
    const auto full = options.batch_size / options.shards;
    auto it = worker.replicas.find(batch);
    if (it == worker.replicas.end()) {
      it = worker.replicas
               .emplace(batch,
                        Worker::Replica{nn::Network(spec, batch, {true, options.trainable, batch < full})})
               .first;
    }
    return it->second;
  }

  static nn::Pass pass_of(const GradientEngine::Impl& engine, const data::Batch& batch,
                          const data::ShardBatch& shard) {
    return {true, engine.options.seed, static_cast<std::uint64_t>(batch.step), shard.sample_ids};
  }

  /// Gradient and loss of one shard into `out`: the arena, then the tail.
  void compute_shard(Worker& worker, const StateDict& state, const data::Batch& batch, int index,
                     std::span<float> out) const {
    const auto& shard = batch.shards[static_cast<std::size_t>(index - range.begin)];
    if (shard.size == 0) {
      std::fill(out.begin(), out.end(), 0.0F);
      return;
    }
    auto& [network, loaded] = replica(worker, shard.size);
    const auto pass = pass_of(*this, batch, shard);
    std::span<const float> outputs;
    {
      const Stopwatch watch(worker.forward_seconds);
      if (loaded != round) {
        network.load(state);
        loaded = round;
      }
      outputs = network.forward(pass, shard.inputs);
    }
    const Stopwatch watch(worker.backward_seconds);
    const float part = 1.0F / static_cast<float>(batch.global_size);
    const auto each = static_cast<float>(shard.labels.size()) / static_cast<float>(shard.size);
    const nn::Targets targets{
        .labels = shard.labels, .rows = shard.rows, .other_labels = shard.other_labels, .share = shard.share};
    worker.grad_output.resize(outputs.size());
    const double loss = objective.evaluate(outputs, targets, spec.classes, part / each, worker.grad_output);
    auto gradients = StateDict::view(layout, out.first(layout->arena_size()));
    network.backward(pass, worker.grad_output, gradients);
    const float share = static_cast<float>(shard.size) * part;
    for (auto& change : gradients.buffers()) change *= share;
    const auto tail = out.last(kTailSize);
    std::fill(tail.begin(), tail.end(), 0.0F);
    tail[kLoss] = static_cast<float>(loss);
    tail[kWeight] = static_cast<float>(objective.weight(targets));
    tail[kLabels] = static_cast<float>(shard.labels.size());
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
    double sum = 0;
    for (const auto& entry : layout->entries()) {
      if (entry.kind != StateKind::kParameter || entry.shape.rank() < 2) continue;
      if (options.trainable && !options.trainable(entry.name.substr(0, entry.name.rfind('.')))) continue;
      const auto w = state.values(entry);
      const auto g = gradient.values(entry);
      sum += square_sum(w);
      for (std::size_t i = 0; i < w.size(); ++i) g[i] += factor * w[i];
    }
    return options.l2 / 2 * sum;
  }

  /// The upper levels of the rank's tree: worker w's sum meets its neighbour's, each worker adding a slice of
  /// all.
  void combine_workers(int w) {
    const auto count = static_cast<std::size_t>(team.size());
    const auto size = workers[0].scratch[0].size();
    const auto begin = size * static_cast<std::size_t>(w) / count;
    const auto end = size * (static_cast<std::size_t>(w) + 1) / count;
    for (std::size_t distance = 1; distance < count; distance *= 2) {
      for (std::size_t i = 0; i < count; i += 2 * distance) {
        const auto into = workers[i].scratch[0];
        const auto from = workers[i + distance].scratch[0];
        for (std::size_t k = begin; k < end; ++k) into[k] += from[k];
      }
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
  StateDict gradient;  // a view on the first worker's sum
  std::int64_t round = 0;
  double communication_seconds = 0;
};

GradientEngine::GradientEngine(const comm::Comm& comm, const nn::ModelSpec& spec,
                               const nn::Objective& objective, EngineOptions options)
    : impl_(std::make_unique<Impl>(comm, spec, objective, std::move(options))) {}

GradientEngine::~GradientEngine() = default;

comm::ShardRange GradientEngine::range() const noexcept { return impl_->range; }

StepResult GradientEngine::compute(const StateDict& state, const data::Batch& batch, bool want_stop) {
  auto& engine = *impl_;
  ++engine.round;
  engine.team.run([&](int w) {
    auto& worker = engine.workers[static_cast<std::size_t>(w)];
    const auto mine = comm::shards_of_rank(w, engine.team.size(), engine.range.size());
    comm::sum_shards(
        {engine.range.begin + mine.begin, engine.range.begin + mine.end}, worker.scratch,
        [&](int shard, std::span<float> out) { engine.compute_shard(worker, state, batch, shard, out); });
  });
  if (engine.team.size() > 1) engine.team.run([&](int w) { engine.combine_workers(w); });

  const auto sum = engine.workers[0].scratch[0];
  const auto tail = sum.last(kTailSize);
  tail[kStop] = want_stop ? 1.0F : 0.0F;
  {
    const Stopwatch watch(engine.communication_seconds);
    engine.reducer.sum_in_place(sum);
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
  for (const auto& shard : batch.shards) {
    if (shard.size == 0) continue;
    auto& network = engine.replica(engine.workers[0], shard.size).network;
    network.load(state);
    network.forward(Impl::pass_of(engine, batch, shard), shard.inputs);
    if (auto layer = network.first_not_finite()) return layer;
  }
  return std::nullopt;
}

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

#include "impart/data/batch_loader.hpp"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

namespace impart::data {

namespace {

/// Memory of one batch, and the views on it.
struct Slot {
  std::vector<float> inputs;
  std::vector<std::int32_t> labels;
  std::vector<std::uint64_t> ids;
  std::vector<std::uint64_t> rows;
  std::vector<std::int32_t> other_labels;  // these two are empty when nothing is mixed
  std::vector<float> lambda;
  Batch batch;
};

}  // namespace

struct BatchLoader::Impl {
  Impl(DatasetPtr d, LoaderOptions o, std::int64_t first_step)
      : dataset(std::move(d)),
        options(std::move(o)),
        sampler(options.sampler ? options.sampler : make_sampler(kDefaultSampler)),
        augmenter(dataset, options.augment, options.seed),
        step_to_fill(first_step) {
    sampler->check(dataset->labels_per_sample());
    sequence = sampler->over(dataset, options.batch_size, options.seed);
    const auto samples =
        static_cast<std::size_t>(options.range.size() * (options.batch_size / options.shards));
    for (auto& slot : slots) make_room(slot, samples);
    thread = std::thread([this] { serve(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      ending = true;
    }
    changed.notify_all();
    thread.join();
  }

  /// Fills slots in turn, always one ahead of the one in use.
  void serve() {
    for (;; ++step_to_fill) {
      auto& slot = slots[static_cast<std::size_t>(step_to_fill % 2)];
      std::exception_ptr failure;
      try {
        fill(slot, step_to_fill);
      } catch (...) {
        failure = std::current_exception();
      }
      std::unique_lock lock(mutex);
      ready = &slot;
      error = failure;
      changed.notify_all();
      changed.wait(lock, [&] { return ready == nullptr || ending; });
      if (ending || failure) return;
    }
  }

  /// For so many samples: more than a full batch has only where its size is a matter of chance.
  void make_room(Slot& slot, std::size_t samples) const {
    if (samples <= slot.rows.size()) return;
    slot.inputs.resize(samples * static_cast<std::size_t>(dataset->sample_shape().elements()));
    slot.labels.resize(samples * labels_each());
    slot.ids.resize(samples);
    slot.rows.resize(samples);
    if (!augmenter.mixes()) return;
    slot.other_labels.resize(samples);
    slot.lambda.resize(samples);
  }

  /// Where shard `shard` of a batch of `size` samples begins; behind the last one, where that ends.
  [[nodiscard]] std::int64_t begin_of(int shard, std::int64_t size) const {
    if (size > options.batch_size) return shard * size / options.shards;
    return std::min(shard * (options.batch_size / options.shards), size);
  }

  void fill(Slot& slot, std::int64_t step) {
    const auto draws = sequence->draws(step);
    const auto size = static_cast<std::int64_t>(draws.size());
    slot.batch.step = step;
    slot.batch.global_size = size;
    slot.batch.expected_size = sampler->traits().varying ? std::min(options.batch_size, dataset->size()) : 0;
    slot.batch.shards.clear();
    make_room(slot, static_cast<std::size_t>(begin_of(options.range.end, size) -
                                             begin_of(options.range.begin, size)));

    std::size_t at = 0;
    for (int shard = options.range.begin; shard < options.range.end; ++shard) {
      const auto start = at;
      for (auto i = begin_of(shard, size); i < begin_of(shard + 1, size); ++i, ++at) {
        put(slot, at, draws[static_cast<std::size_t>(i)]);
      }
      slot.batch.shards.push_back(shard_of(slot, start, at - start));
    }
  }

  /// A sample into place `at` of `slot`.
  void put(Slot& slot, std::size_t at, const Draw& draw) {
    const auto [row, visit] = draw;
    const auto elements = static_cast<std::size_t>(dataset->sample_shape().elements());
    const auto mix = augmenter.get(row, visit, std::span(slot.inputs).subspan(at * elements, elements));
    dataset->labels(row, std::span(slot.labels).subspan(at * labels_each(), labels_each()));
    slot.ids[at] = dataset->id(row);
    slot.rows[at] = static_cast<std::uint64_t>(row);
    if (!augmenter.mixes()) return;
    slot.other_labels[at] = dataset->label(mix.partner);
    slot.lambda[at] = mix.lambda;
  }

  [[nodiscard]] std::size_t labels_each() const {
    return static_cast<std::size_t>(dataset->labels_per_sample());
  }

  [[nodiscard]] ShardBatch shard_of(const Slot& slot, std::size_t start, std::size_t count) const {
    const auto elements = static_cast<std::size_t>(dataset->sample_shape().elements());
    ShardBatch shard{static_cast<std::int64_t>(count),
                     std::span(slot.inputs).subspan(start * elements, count * elements),
                     std::span(slot.labels).subspan(start * labels_each(), count * labels_each()),
                     std::span(slot.ids).subspan(start, count), std::span(slot.rows).subspan(start, count)};
    if (augmenter.mixes()) {
      shard.other_labels = std::span(slot.other_labels).subspan(start, count);
      shard.lambda = std::span(slot.lambda).subspan(start, count);
    }
    return shard;
  }

  DatasetPtr dataset;
  LoaderOptions options;
  SamplerPtr sampler;
  std::array<Slot, 2> slots;

  // Of the thread alone, once that runs.
  Augmenter augmenter;
  std::unique_ptr<SampleSequence> sequence;
  std::int64_t step_to_fill;

  std::mutex mutex;
  std::condition_variable changed;
  Slot* ready = nullptr;  // filled and not yet taken
  std::exception_ptr error;
  bool ending = false;
  std::thread thread;
};

BatchLoader::BatchLoader(DatasetPtr dataset, LoaderOptions options, std::int64_t first_step)
    : impl_(std::make_unique<Impl>(std::move(dataset), std::move(options), first_step)) {}

BatchLoader::~BatchLoader() = default;

const Batch& BatchLoader::next() {
  auto& loader = *impl_;
  std::unique_lock lock(loader.mutex);
  loader.changed.wait(lock, [&] { return loader.ready != nullptr; });
  if (loader.error) std::rethrow_exception(loader.error);
  // Taking the slot lets the thread fill the other one, which the caller has done with.
  auto* taken = std::exchange(loader.ready, nullptr);
  loader.changed.notify_all();
  return taken->batch;
}

}  // namespace impart::data

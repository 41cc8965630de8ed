#include "impart/data/batch_loader.hpp"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"

namespace impart::data {

namespace {

/// Labels and the like of one stream's samples.
struct StreamSlot {
  std::vector<std::int32_t> labels;
  std::vector<std::uint64_t> rows;
  std::vector<std::int32_t> other_labels;  // these two are empty when nothing is mixed
  std::vector<float> lambda;
  std::size_t filled = 0;
};

/// Memory of one batch, and the views on it.
struct Slot {
  std::vector<float> inputs;
  std::vector<std::uint64_t> ids;
  std::vector<StreamSlot> streams;
  std::size_t filled = 0;
  Batch batch;
};

/// A stream, and where its samples come from.
struct Source {
  Source(Stream s, std::uint64_t seed)
      : stream(std::move(s)),
        sampler(stream.sampler ? stream.sampler : make_sampler(kDefaultSampler)),
        augmenter(stream.dataset, stream.augment, seed) {
    sampler->check(stream.dataset->labels_per_sample());
    sequence = sampler->over(stream.dataset, stream.batch_size, seed);
  }

  [[nodiscard]] std::size_t labels_each() const {
    return stream.labelled ? static_cast<std::size_t>(stream.dataset->labels_per_sample()) : 0;
  }
  [[nodiscard]] bool mixes() const { return stream.labelled && augmenter.mixes(); }

  /// The draws of `step`, which of a further stream is one of those that are full.
  std::span<const Draw> draws(std::int64_t step, bool further) {
    const auto full = stream.dataset->size() / stream.batch_size;
    if (!further) return sequence->draws(step);
    return sequence->draws(step / full * steps_per_epoch(stream.dataset->size(), stream.batch_size) +
                           step % full);
  }

  Stream stream;
  SamplerPtr sampler;
  Augmenter augmenter;
  std::unique_ptr<SampleSequence> sequence;
};

/// Throws Error (usage) when `stream` cannot be read beside `first`.
void check_further(const Stream& stream, const Dataset& first, int shards) {
  const auto refuse = [](const char* what, const std::string& expected, const std::string& got) {
    throw Error(what, ErrorKind::kUsage).expected(expected).got(got);
  };
  if (stream.dataset->sample_shape() != first.sample_shape()) {
    refuse("the streams of data have samples of other shapes", first.sample_shape().str(),
           stream.dataset->sample_shape().str());
  }
  if (stream.batch_size < 1 || stream.batch_size % shards != 0) {
    refuse("the batch of a stream cannot be cut into equal shards",
           "a multiple of " + std::to_string(shards) + " shards", std::to_string(stream.batch_size));
  }
  if (stream.dataset->size() < stream.batch_size) {
    refuse("a further stream has less than one batch of samples",
           "at least " + std::to_string(stream.batch_size), std::to_string(stream.dataset->size()));
  }
  if (stream.sampler && stream.sampler->traits().varying) {
    refuse("a further stream's batches must be full", "a sampler with batches of one size",
           "one whose batches vary");
  }
}

/// Of stream `i`, so that no two draw alike.
std::uint64_t seed_of(std::uint64_t seed, std::size_t i) {
  return i == 0 ? seed : Rng(seed, "stream", i).next64();
}

}  // namespace

struct BatchLoader::Impl {
  Impl(const DatasetPtr& dataset, LoaderOptions o, std::int64_t first_step)
      : options(std::move(o)), step_to_fill(first_step) {
    sources.emplace_back(Stream{dataset, options.batch_size, options.sampler, options.augment}, options.seed);
    for (std::size_t i = 0; i < options.more.size(); ++i) {
      check_further(options.more[i], *dataset, options.shards);
      sources.emplace_back(options.more[i], seed_of(options.seed, i + 1));
    }
    elements = static_cast<std::size_t>(dataset->sample_shape().elements());
    for (auto& slot : slots) {
      slot.streams.resize(sources.size());
      make_room(slot, options.batch_size);
    }
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

  /// How many samples of a batch of `size` of stream `i` are this rank's.
  [[nodiscard]] std::size_t own_part(std::size_t i, std::int64_t size) const {
    return static_cast<std::size_t>(begin_of(i, options.range.end, size) -
                                    begin_of(i, options.range.begin, size));
  }

  /// For so many samples of the first stream: more than a full batch has only where its size is a matter of
  /// chance.
  void make_room(Slot& slot, std::int64_t size) const {
    std::size_t all = 0;
    for (std::size_t i = 0; i < sources.size(); ++i) {
      const auto samples = own_part(i, i == 0 ? size : sources[i].stream.batch_size);
      all += samples;
      auto& stream = slot.streams[i];
      if (samples <= stream.rows.size()) continue;
      stream.labels.resize(samples * sources[i].labels_each());
      stream.rows.resize(samples);
      if (!sources[i].mixes()) continue;
      stream.other_labels.resize(samples);
      stream.lambda.resize(samples);
    }
    if (all <= slot.ids.size()) return;
    slot.inputs.resize(all * elements);
    slot.ids.resize(all);
  }

  /// Where shard `shard` of a batch of `size` samples of stream `i` begins; behind the last one, where that
  /// ends.
  [[nodiscard]] std::int64_t begin_of(std::size_t i, int shard, std::int64_t size) const {
    const auto batch_size = sources[i].stream.batch_size;
    if (size > batch_size) return shard * size / options.shards;
    return std::min(shard * (batch_size / options.shards), size);
  }

  void fill(Slot& slot, std::int64_t step) {
    std::vector<std::span<const Draw>> draws;
    for (std::size_t i = 0; i < sources.size(); ++i) draws.push_back(sources[i].draws(step, i > 0));
    const auto& first = sources.front();
    auto& batch = slot.batch;
    batch.step = step;
    batch.global_size = static_cast<std::int64_t>(draws[0].size());
    batch.expected_size =
        first.sampler->traits().varying ? std::min(options.batch_size, first.stream.dataset->size()) : 0;
    batch.shards.clear();
    batch.more.assign(sources.size() - 1, {});
    make_room(slot, batch.global_size);

    slot.filled = 0;
    for (auto& stream : slot.streams) stream.filled = 0;
    for (int shard = options.range.begin; shard < options.range.end; ++shard) {
      for (std::size_t i = 0; i < sources.size(); ++i) {
        const auto size = static_cast<std::int64_t>(draws[i].size());
        const auto begin = begin_of(i, shard, size);
        const auto count = begin_of(i, shard + 1, size) - begin;
        (i == 0 ? batch.shards : batch.more[i - 1])
            .push_back(put(
                slot, i, draws[i].subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count))));
      }
    }
  }

  /// Samples of stream `i` behind those that `slot` has.
  ShardBatch put(Slot& slot, std::size_t i, std::span<const Draw> draws) {
    auto& source = sources[i];
    auto& stream = slot.streams[i];
    const auto each = source.labels_each();
    const auto start = slot.filled;
    const auto start_in_stream = stream.filled;
    for (const auto& [row, visit] : draws) {
      const auto at = stream.filled++;
      const auto mix =
          source.augmenter.get(row, visit, std::span(slot.inputs).subspan(slot.filled * elements, elements));
      if (each > 0) source.stream.dataset->labels(row, std::span(stream.labels).subspan(at * each, each));
      slot.ids[slot.filled++] = source.stream.dataset->id(row);
      stream.rows[at] = static_cast<std::uint64_t>(row);
      if (!source.mixes()) continue;
      stream.other_labels[at] = source.stream.dataset->label(mix.partner);
      stream.lambda[at] = mix.lambda;
    }
    const auto count = draws.size();
    ShardBatch shard{
        static_cast<std::int64_t>(count), std::span(slot.inputs).subspan(start * elements, count * elements),
        std::span(stream.labels).subspan(start_in_stream * each, count * each),
        std::span(slot.ids).subspan(start, count), std::span(stream.rows).subspan(start_in_stream, count)};
    if (source.mixes()) {
      shard.other_labels = std::span(stream.other_labels).subspan(start_in_stream, count);
      shard.lambda = std::span(stream.lambda).subspan(start_in_stream, count);
    }
    return shard;
  }

  LoaderOptions options;
  std::array<Slot, 2> slots;
  std::size_t elements = 0;  // of a sample

  // Of the thread alone, once that runs.
  std::vector<Source> sources;
  std::int64_t step_to_fill;

  std::mutex mutex;
  std::condition_variable changed;
  Slot* ready = nullptr;  // filled and not yet taken
  std::exception_ptr error;
  bool ending = false;
  std::thread thread;
};

BatchLoader::BatchLoader(const DatasetPtr& dataset, LoaderOptions options, std::int64_t first_step)
    : impl_(std::make_unique<Impl>(dataset, std::move(options), first_step)) {}

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

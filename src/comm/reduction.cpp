#include "impart/comm/reduction.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "comm/overlap_choice.hpp"
#include "comm/patience.hpp"
#include "comm/tree_exchange.hpp"
#include "impart/comm/node_memory.hpp"
#include "impart/comm/watch.hpp"
#include "impart/core/clock.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"

namespace impart::comm {

namespace {

constexpr std::size_t kLine = kAlignment / sizeof(float);
constexpr std::size_t kBlock = 4096;                        // floats that stay in the first-level cache
constexpr std::size_t kNodeBucket = std::size_t{1} << 18;   // floats that stay in the second
constexpr std::size_t kLeastBucket = std::size_t{1} << 16;  // between nodes
constexpr std::size_t kLargestBucket = std::size_t{1} << 21;
constexpr std::chrono::microseconds kNap{200};  // of the thread, while it waits for others

std::size_t round_up(std::size_t floats) { return (floats + kLine - 1) / kLine * kLine; }

/// Counts buckets from the first round on; on a cache line of its own.
struct alignas(kAlignment) Counter {
  std::atomic<std::uint64_t> value{0};
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "lies in memory that processes share");

/// What a worker tells the others of its node.
struct Control {
  Counter completed;  // its gradients of the bucket are final
  Counter added;      // its slice of the bucket is summed over the node
  Counter summed;     // of the node's first worker: the bucket is summed over all nodes
  Counter taken;      // its rank's sum holds its slice of that
};

/// The ranks that share memory with this one and are its neighbours in `comm`; else it alone.
Comm find_node(const Comm& comm, std::size_t bytes, const ReductionOptions& options) {
  if (comm.size() == 1 || !options.reproducible || options.node_ranks == 1) return Comm::self();
  auto node = comm.split_by_node();
  if (options.node_ranks > 1) node = node.split(node.rank() / options.node_ranks, node.rank());
  std::int32_t first = comm.rank();
  std::int32_t last = comm.rank();
  node.min_in_place(std::span(&first, 1), "ranks of a node");
  node.max_in_place(std::span(&last, 1), "ranks of a node");
  const bool room = node_has_room(node, bytes);
  std::int32_t share_all = room && last - first + 1 == node.size() ? 1 : 0;
  comm.min_in_place(std::span(&share_all, 1), "ranks of a node");
  if (share_all != 0) return node;
  if (!room && node.is_root()) {
    log::warn(
        "the node has not enough shared memory for gradients (/dev/shm): its ranks send them as messages");
  }
  return Comm::self();
}

std::vector<Reduction::Bucket> cut(std::size_t parameters, std::size_t size, std::size_t bucket) {
  std::vector<Reduction::Bucket> buckets;
  for (std::size_t end = parameters; end > 0;) {
    const auto begin = end > bucket ? (end - bucket) / kLine * kLine : 0;
    buckets.push_back({begin, end});
    end = begin;
  }
  buckets.push_back({parameters, size});
  return buckets;
}

}  // namespace

struct Reduction::Impl {
  /// A worker of the node, of any of its ranks.
  struct Worker {
    int rank = 0;  // of the node
    ShardRange range;
    Control* control = nullptr;
    std::vector<std::span<float>> parts;
  };
  /// How far a worker of this rank has come in this round. Touched by one thread at a time.
  struct alignas(kAlignment) Cursor {
    std::size_t added = 0;
    std::size_t taken = 0;
  };
  struct Progress {
    bool done = false;
    bool moved = false;
  };

  Impl(const Comm& given, const ReductionOptions& given_options);
  ~Impl();

  [[nodiscard]] std::vector<ShardRange> ranges_of(int rank, int threads) const;
  void find_workers();
  void connect_nodes();
  std::size_t measure_bucket();
  [[nodiscard]] std::vector<Overlap> candidates() const;

  [[nodiscard]] Worker& worker(int w) { return workers[first_worker + static_cast<std::size_t>(w)]; }
  [[nodiscard]] std::size_t least(Counter Control::*counter) const;
  void add_slice(std::size_t number, Bucket bucket);
  bool exchange();
  bool take(int w, std::size_t summed);
  Progress step(int w);
  void serve();

  const Comm& comm;
  ReductionOptions options;
  int shards;  // among which this rank's ranges are counted
  Comm node;
  std::optional<NodeMemory> memory;
  std::vector<Worker> workers;  // of the node
  std::size_t first_worker = 0;
  std::vector<std::span<float>> sums;   // of each rank of the node
  std::vector<std::span<float>> parts;  // of all workers, one after another
  std::vector<Addition> additions;      // between them
  std::vector<std::span<float>> left;   // the node's partial sums
  std::vector<Bucket> buckets;

  std::optional<Comm> leaders;  // one rank of each node, when there are several; on these ranks only
  bool several = false;
  std::vector<std::unique_ptr<Exchange>> exchanges;  // of each bucket
  std::size_t started = 0;
  std::size_t summed = 0;

  std::uint64_t base = 0;  // what the counters stood at when the round began
  std::vector<Cursor> cursors;
  int spins = 0;
  std::optional<OverlapChoice> choice;

  std::mutex mutex;
  std::condition_variable changed;
  bool serving = false;
  std::atomic<bool> wanted{false};
  std::atomic<bool> ending{false};
  std::thread thread;
};

Reduction::Impl::Impl(const Comm& given, const ReductionOptions& given_options)
    : comm(given), options(given_options), shards(options.shards), node(Comm::self()) {
  check_rank_count(comm.size(), options.shards);
  if (!options.reproducible) shards = options.shards / comm.size();
  find_workers();
  connect_nodes();
  const auto bucket = options.bucket != 0 ? options.bucket : several ? measure_bucket() : kNodeBucket;
  buckets = cut(options.parameters, options.size, bucket);
  if (leaders) {
    std::vector<ShardRange> ranges;
    const int each = options.shards / comm.size();
    for (const auto size : leaders->gather_all<std::int32_t>(node.size(), "ranks of a node")) {
      const int begin = ranges.empty() ? 0 : ranges.back().end;
      ranges.push_back({begin, begin + size * each});
    }
    const TreeMembers members(ranges, options.shards);
    for (std::size_t b = 0; b < buckets.size(); ++b) {
      const auto [begin, end] = buckets[b];
      std::vector<std::span<float>> values;
      for (const auto part : left) values.push_back(part.subspan(begin, end - begin));
      if (options.reproducible) {
        exchanges.push_back(
            std::make_unique<TreeExchange<float>>(*leaders, members, values, static_cast<int>(b)));
      } else {
        exchanges.push_back(std::make_unique<MpiExchange>(*leaders, values[0]));
      }
    }
  }
  spins = spins_for(workers.size());
  choice.emplace(comm, candidates());
}

Reduction::Impl::~Impl() {
  ending = true;
  { const std::lock_guard lock(mutex); }
  changed.notify_all();
  if (thread.joinable()) thread.join();
}

/// The shards of each thread of a rank.
std::vector<ShardRange> Reduction::Impl::ranges_of(int rank, int threads) const {
  std::vector<ShardRange> ranges;
  for (int w = 0; w < threads; ++w) {
    ranges.push_back(options.reproducible ? shards_of_rank(rank * threads + w, comm.size() * threads, shards)
                                          : shards_of_rank(w, threads, shards));
  }
  return ranges;
}

// What a rank shares: its workers' controls, and then their parts.
void Reduction::Impl::find_workers() {
  const auto stride = round_up(options.size) * sizeof(float);
  const auto bytes_of = [&](int rank, int threads) {
    std::size_t bytes = 0;
    for (const auto range : ranges_of(rank, threads)) {
      bytes += sizeof(Control) + partial_sums(range, shards).size() * stride;
    }
    return bytes;
  };
  const auto mine = bytes_of(comm.rank(), options.workers);
  node = find_node(comm, mine, options);
  memory.emplace(node, mine);
  const auto threads = node.gather_all<std::int32_t>(options.workers, "threads of a node");

  std::vector<ShardRange> part_ranges;
  for (int rank = 0; rank < node.size(); ++rank) {
    if (rank == node.rank()) first_worker = workers.size();
    const int count = threads[static_cast<std::size_t>(rank)];
    auto* bytes = memory->of(rank).data();
    auto* controls = reinterpret_cast<Control*>(bytes);
    auto* values = reinterpret_cast<float*>(bytes + static_cast<std::size_t>(count) * sizeof(Control));
    for (const auto range : ranges_of(comm.rank() - node.rank() + rank, count)) {
      workers.push_back({rank, range, controls++, {}});
      for (const auto part : partial_sums(range, shards)) {
        part_ranges.push_back(part);
        parts.emplace_back(values, options.size);
        workers.back().parts.push_back(parts.back());
        values += stride / sizeof(float);
      }
    }
    sums.push_back(workers[workers.size() - static_cast<std::size_t>(count)].parts[0]);
  }
  for (int w = 0; w < options.workers; ++w) new (worker(w).control) Control;
  node.barrier();
  additions = impart::additions(part_ranges, shards);
  for (const auto number : left_after_additions(part_ranges, shards)) left.push_back(parts[number]);
  cursors.resize(static_cast<std::size_t>(options.workers));
}

void Reduction::Impl::connect_nodes() {
  several = node.size() < comm.size();
  if (!several) return;
  auto part = comm.split(node.is_root() ? 0 : 1, comm.rank());
  if (node.is_root()) leaders.emplace(std::move(part));
}

/// So large that a bucket's latency costs a twentieth of it.
std::size_t Reduction::Impl::measure_bucket() {
  double floats = 0;
  if (leaders) {
    std::vector<ShardRange> ranges;
    for (int i = 0; i < leaders->size(); ++i) ranges.push_back({i, i + 1});
    const TreeMembers members(ranges, leaders->size());
    const auto seconds = [&](std::size_t size) {
      std::vector<float> values(size);
      TreeExchange<float> sum(*leaders, members, {std::span(values)}, 0);
      double best = 1;
      for (int i = 0; i < 4; ++i) {
        leaders->barrier();
        const auto start = Clock::now();
        sum.start();
        while (!sum.advance()) {
        }
        best = std::min(best, seconds_since(start));
      }
      return best;
    };
    const double latency = seconds(kLine);
    const double rest = std::max(seconds(kLeastBucket) - latency, 1e-9);
    floats = 20 * latency / rest * static_cast<double>(kLeastBucket);
  }
  comm.max_in_place(std::span(&floats, 1), "size of a bucket");
  return static_cast<std::size_t>(
      std::clamp(floats, static_cast<double>(kLeastBucket), static_cast<double>(kLargestBucket)));
}

std::vector<Overlap> Reduction::Impl::candidates() const {
  if (comm.size() == 1) return {Overlap::kBlocking};  // threads add in parallel when all have come
  int level = MPI_THREAD_SINGLE;
  MPI_Query_thread(&level);
  const bool no_thread = several && level < MPI_THREAD_MULTIPLE;
  if (options.overlap == Overlap::kThread && no_thread) {
    throw Error("this MPI does not let a thread communicate", ErrorKind::kUsage)
        .at("overlap")
        .expected("MPI_THREAD_MULTIPLE")
        .hint("use overlap = \"polling\"")
        .collective();
  }
  if (options.overlap != Overlap::kAuto) return {options.overlap};
  if (no_thread) return {Overlap::kBlocking, Overlap::kPolling};
  return {Overlap::kBlocking, Overlap::kPolling, Overlap::kThread};
}

/// How many of this round's buckets all workers of the node have counted.
std::size_t Reduction::Impl::least(Counter Control::*counter) const {
  auto count = base + buckets.size();
  for (const auto& each : workers) {
    count = std::min(count, (each.control->*counter).value.load(std::memory_order_acquire));
  }
  return static_cast<std::size_t>(count - base);
}

/// The slice that worker `number` of the node sums. Without other nodes, every rank gets the sum at once.
void Reduction::Impl::add_slice(std::size_t number, Bucket bucket) {
  const auto lines = (bucket.end - bucket.begin + kLine - 1) / kLine;
  const auto end = std::min(bucket.end, bucket.begin + lines * (number + 1) / workers.size() * kLine);
  for (auto begin = bucket.begin + lines * number / workers.size() * kLine; begin < end; begin += kBlock) {
    const auto size = std::min(kBlock, end - begin);
    for (const auto [into, from] : additions) {
      auto* to = parts[into].data() + begin;
      const auto* values = parts[from].data() + begin;
      for (std::size_t i = 0; i < size; ++i) to[i] += values[i];
    }
    for (std::size_t rank = 1; rank < sums.size() && !several; ++rank) {
      std::copy_n(sums[0].data() + begin, size, sums[rank].data() + begin);
    }
  }
}

/// The node's sums meet those of other nodes. True when something has moved.
bool Reduction::Impl::exchange() {
  const auto before = started + summed;
  for (const auto ready = least(&Control::added); started < ready; ++started) exchanges[started]->start();
  bool in_order = true;
  for (auto b = summed; b < started; ++b) {
    in_order = exchanges[b]->advance() && in_order;
    if (in_order) summed = b + 1;
  }
  workers[0].control->summed.value.store(base + summed, std::memory_order_release);
  return started + summed != before;
}

/// Brings what the node's first rank has to this one.
bool Reduction::Impl::take(int w, std::size_t count) {
  auto& taken = cursors[static_cast<std::size_t>(w)].taken;
  const auto before = taken;
  for (; taken < count; ++taken) {
    const auto [begin, end] = buckets[taken];
    const auto size = (end - begin);
    const auto own = static_cast<std::size_t>(w);
    const auto all = static_cast<std::size_t>(options.workers);
    const auto from = begin + size * own / all;
    if (!node.is_root()) {
      std::copy_n(sums[0].data() + from, begin + size * (own + 1) / all - from,
                  sums[static_cast<std::size_t>(node.rank())].data() + from);
    }
  }
  worker(w).control->taken.value.store(base + taken, std::memory_order_release);
  return taken != before;
}

/// Everything that worker `w` can do now.
Reduction::Impl::Progress Reduction::Impl::step(int w) {
  auto& added = cursors[static_cast<std::size_t>(w)].added;
  Progress progress;
  for (const auto ready = least(&Control::completed); added < ready; ++added) {
    add_slice(first_worker + static_cast<std::size_t>(w), buckets[added]);
    worker(w).control->added.value.store(base + added + 1, std::memory_order_release);
    progress.moved = true;
  }
  if (several) {
    if (leaders && w == 0) progress.moved |= exchange();
    const auto ready = workers[0].control->summed.value.load(std::memory_order_acquire);
    progress.moved |= take(w, ready > base ? static_cast<std::size_t>(ready - base) : 0);
  }
  // Until all have read what this rank's arrays hold, they must not change.
  progress.done = least(several ? &Control::taken : &Control::added) == buckets.size();
  return progress;
}

/// The thread, which does all workers' steps.
void Reduction::Impl::serve() {
  for (;;) {
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return serving || ending; });
    }
    for (bool done = false; !done;) {
      if (ending) return;
      done = true;
      bool moved = false;
      for (int w = 0; w < options.workers; ++w) {
        const auto progress = step(w);
        done = done && progress.done;
        moved = moved || progress.moved;
      }
      if (!done && !moved) std::this_thread::sleep_for(kNap);
    }
    {
      const std::lock_guard lock(mutex);
      serving = false;
    }
    changed.notify_all();
  }
}

Reduction::Reduction(const Comm& comm, const ReductionOptions& options)
    : impl_(std::make_unique<Impl>(comm, options)) {}

Reduction::~Reduction() = default;

std::span<const Reduction::Bucket> Reduction::buckets() const noexcept { return impl_->buckets; }

ShardRange Reduction::range_of(int worker) const noexcept { return impl_->worker(worker).range; }

int Reduction::shards() const noexcept { return impl_->shards; }

std::span<const std::span<float>> Reduction::parts_of(int worker) const noexcept {
  return impl_->worker(worker).parts;
}

Overlap Reduction::overlap() const noexcept { return impl_->choice->current(); }

Overlap Reduction::settled() const noexcept { return impl_->choice->is_made() ? overlap() : Overlap::kAuto; }

void Reduction::begin() {
  auto& all = *impl_;
  all.choice->begin();
  std::ranges::fill(all.cursors, Impl::Cursor{});
  all.started = all.summed = 0;
  all.wanted = false;
  if (overlap() == Overlap::kThread && !all.thread.joinable())
    all.thread = std::thread([&all] { all.serve(); });
}

void Reduction::complete(int worker, std::size_t count) {
  auto& all = *impl_;
  all.worker(worker).control->completed.value.store(all.base + count, std::memory_order_release);
  if (overlap() != Overlap::kThread || count == 0 || all.wanted.exchange(true)) return;
  {
    const std::lock_guard lock(all.mutex);
    all.serving = true;
  }
  all.changed.notify_all();
}

void Reduction::advance(int worker) {
  if (overlap() == Overlap::kPolling) impl_->step(worker);
}

void Reduction::finish(int worker) {
  auto& all = *impl_;
  std::optional<Waiting> waiting;
  if (worker == 0) waiting.emplace(all.comm, "sum of gradients");
  if (overlap() == Overlap::kThread) {
    std::unique_lock lock(all.mutex);
    all.changed.wait(lock, [&] { return !all.serving; });
    return;
  }
  Patience patience(all.spins);
  while (!all.step(worker).done) patience.wait();
}

void Reduction::end() {
  impl_->base += impl_->buckets.size();
  impl_->choice->end();
}

}  // namespace impart::comm

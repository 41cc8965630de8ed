// run_deck: stages in order, those that do not depend on each other beside each other; a finished one whose
// key still holds is reused.

#include "impart/runner/runner.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "impart/comm/watch.hpp"
#include "impart/core/clock.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "impart/core/trace.hpp"
#include "impart/nn/wisdom.hpp"
#include "impart/stages/ranks.hpp"
#include "impart/stages/run_context.hpp"
#include "runner/directory_lock.hpp"
#include "runner/rank_groups.hpp"
#include "runner/reuse.hpp"
#include "runner/run_record.hpp"
#include "runner/stage_artifact.hpp"

namespace impart::runner {

namespace {

namespace fs = std::filesystem;

// The stage's name in front, once: the Trainer's messages begin with it already.
Error failure_of(const std::string& stage, const Error& cause) {
  const std::string text = cause.what();
  if (text.starts_with("stage " + stage + ": ")) return Error(text, cause.kind());
  if (text.starts_with(stage + ": ")) return Error("stage " + text, cause.kind());
  return std::move(Error(text, cause.kind()).at("stage " + stage));
}

class Runner {
 public:
  Runner(const comm::Comm& comm, const stages::Deck& deck, const stages::RunOptions& options)
      : comm_(comm),
        deck_(deck),
        options_(options),
        directory_(deck.run_directory()),
        record_(directory_, deck, comm.size(), options.threads),
        context_(comm, deck, options, [this](const std::string& stage, const train::TrainEvent& event) {
          if (!context_.comm().is_root()) return;
          const auto line = log_line(stage, event);
          metrics_->append(line);
          events_ += line;
        }) {
    for (const auto& stage : deck.stages) jobs_.emplace_back().stage = stage;
  }

  RunReport execute() {
    take_wisdom();
    comm::agree(comm_, "run directory", [&] { prepare(); });
    if (options_.trace) start_trace();
    for (auto& job : jobs_) {
      const auto& name = job.stage->name();
      job.done = !selected(name);
      if (job.done) adopt(context_, record_, *job.stage, needed_by_selected(name));
    }
    while (!std::ranges::all_of(jobs_, &Job::done)) {
      if (stop_wanted()) {
        report_.stopped = true;
        break;
      }
      const auto ready = ready_stages();
      if (reuse_some(ready)) continue;
      if (!run_groups(deal(ready))) break;
    }
    if (options_.trace) finish_trace();
    std::ranges::sort(report_.stages, {}, [&](const StageSummary& s) { return position(s.name); });
    return std::move(report_);
  }

 private:
  /// A stage, and how far this run has come with it.
  struct Job {
    std::shared_ptr<const stages::Stage> stage;
    bool done = false;           // or not wanted
    std::string key;             // empty as long as what it reads is not there
    double earlier_seconds = 0;  // of attempts that this one continues; on the root
    bool continued = false;      // goes on from a saved state; on the root
  };

  [[nodiscard]] bool selected(const std::string& stage) const {
    return options_.only.empty() || std::ranges::find(options_.only, stage) != options_.only.end();
  }

  // One rank reads it, so that all have the same kernels.
  void take_wisdom() {
    std::string text;
    comm::agree(comm_, "wisdom", [&] {
      if (comm_.is_root() && !deck_.run.wisdom.empty()) text = read_file(deck_.resolve(deck_.run.wisdom));
    });
    comm_.broadcast(text, 0, "wisdom");
    comm::agree(comm_, "wisdom", [&] { nn::use_wisdom(text); });
  }

  void prepare() {
    if (!comm_.is_root()) return;
    fs::create_directories(directory_);
    lock_.take(directory_);
    if (!options_.fresh || !options_.only.empty()) record_.load();
    if (options_.fresh && options_.only.empty()) record_.clear_log();
    record_.open_log();
  }

  // A signal reaches some ranks sooner than others.
  [[nodiscard]] bool stop_wanted() const {
    std::int32_t wanted = options_.stop != nullptr && options_.stop->load() ? 1 : 0;
    comm_.max_in_place(std::span(&wanted, 1), "stop");
    return wanted != 0;
  }

  [[nodiscard]] bool needed_by_selected(const std::string& name) const {
    return std::ranges::any_of(jobs_, [&](const Job& job) {
      const auto uses = job.stage->uses().artifacts;
      return selected(job.stage->name()) &&
             std::ranges::find(uses, name, &stages::ArtifactUse::name) != uses.end();
    });
  }

  [[nodiscard]] std::size_t position(const std::string& stage) const {
    const auto found = std::ranges::find(jobs_, stage, [](const Job& job) { return job.stage->name(); });
    return static_cast<std::size_t>(found - jobs_.begin());
  }

  /// What can run now, in the deck's order.
  [[nodiscard]] std::vector<std::size_t> ready_stages() const {
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i < jobs_.size(); ++i) {
      const auto uses = jobs_[i].stage->uses().artifacts;
      const bool waits = std::ranges::any_of(uses, [&](const stages::ArtifactUse& use) {
        const auto source = position(use.name);
        return source < jobs_.size() && !jobs_[source].done;
      });
      if (!jobs_[i].done && !waits) ready.push_back(i);
    }
    return ready;
  }

  /// Takes what is finished already; all ranks then have read what the others read. True when something was
  /// reused. Collective.
  bool reuse_some(const std::vector<std::size_t>& ready) {
    bool any = false;
    for (const auto i : ready) {
      auto& job = jobs_[i];
      if (!job.key.empty()) continue;
      try {
        job.key = key_of(context_, *job.stage);
        if (options_.fresh) continue;
        const auto record = reuse(context_, record_, *job.stage, job.key);
        if (!record) continue;
        summarise(*job.stage, StageStatus::kReused, *record);
        any = true;
        job.done = true;
        forget_unused();
      } catch (const Error& e) {
        fail(new_record(job), e);
      }
    }
    return any;
  }

  /// Which of them run now, and where. Collective.
  std::vector<RankGroup> deal(const std::vector<std::size_t>& ready) {
    // A model that a part of the ranks reads, all must have read; and one rank alone looks at the costs.
    if (ready.size() > 1 && comm_.size() > 1) {
      for (const auto i : ready) {
        for (const auto& use : jobs_[i].stage->uses().artifacts) context_.model(use.name);
      }
    }
    std::vector<std::int32_t> plan;  // for each group: ranks, number of stages, stages
    comm::agree(comm_, "dealing ranks to stages", [&] {
      if (!comm_.is_root()) return;
      std::vector<Candidate> candidates;
      for (const auto i : ready) {
        const auto wanted = stages::wanted_ranks(*jobs_[i].stage, comm_.size(), deck_.run.shards);
        if (wanted > 0 || ready.size() == 1 || comm_.size() == 1) {
          candidates.push_back({.stage = i, .ranks = wanted});
        } else {
          candidates.push_back({i, cost_of(i), 0, jobs_[i].stage->least_ranks(context_)});
        }
      }
      for (const auto& group : deal_ranks(candidates, comm_.size(), deck_.run.shards)) {
        plan.push_back(group.ranks);
        plan.push_back(static_cast<std::int32_t>(group.stages.size()));
        for (const auto stage : group.stages) plan.push_back(static_cast<std::int32_t>(stage));
      }
    });
    auto size = static_cast<std::int32_t>(plan.size());
    comm_.broadcast(std::span(&size, 1), 0, "groups");
    plan.resize(static_cast<std::size_t>(size));
    comm_.broadcast(std::span(plan), 0, "groups");
    std::vector<RankGroup> groups;
    for (auto at = plan.begin(); at != plan.end();) {
      const int ranks = *at++;
      const auto count = *at++;
      groups.push_back({ranks, {at, at + count}});
      at += count;
    }
    return groups;
  }

  /// What a stage took when it last ran here says more than a few samples. Local.
  double cost_of(std::size_t i) {
    const auto* before = record_.find(jobs_[i].stage->name());
    if (before != nullptr && before->status == "done" && !before->times.empty())
      return before->seconds * static_cast<double>(before->times.size());
    return jobs_[i].stage->cost(context_);
  }

  /// Every rank runs the stages of its group. False when a stage was stopped. Collective.
  bool run_groups(const std::vector<RankGroup>& groups) {
    anything_ran_ = true;
    for (const auto& group : groups) {
      for (const auto i : group.stages) begin(jobs_[i]);
    }
    // Nobody looks for a state before the root has removed an old one.
    comm_.barrier();
    metrics_.emplace(directory_ / "metrics.jsonl");
    std::string outcomes;
    int first = 0;
    std::size_t mine = 0;
    for (; mine < groups.size(); first += groups[mine++].ranks) {
      if (comm_.rank() < first + groups[mine].ranks) break;
    }
    if (groups.size() == 1 && groups[0].ranks == comm_.size()) {
      outcomes = run_stages(groups[0], comm_, options_.progress);
    } else {
      const auto group = comm_.split(static_cast<int>(mine), comm_.rank());
      const bool bar = options_.progress == ProgressMode::kAuto || options_.progress == ProgressMode::kBar;
      if (mine < groups.size()) {
        outcomes = run_stages(groups[mine], group, bar ? ProgressMode::kPlain : options_.progress);
      }
      context_.use_ranks(comm_, options_.progress);
      // A model that only some have kept would be read by the others alone.
      for (const auto& each : groups) {
        for (const auto i : each.stages) context_.forget(jobs_[i].stage->name());
      }
    }
    return take_outcomes(outcomes);
  }

  /// Records of the stages that a group has run, a line each; on its root. A failure ends the list.
  /// Collective over `ranks`.
  std::string run_stages(const RankGroup& group, const comm::Comm& ranks, ProgressMode progress) {
    context_.use_ranks(ranks, progress);
    std::string outcomes;
    for (const auto i : group.stages) {
      auto record = new_record(jobs_[i]);
      const auto start = Clock::now();
      const auto& stage = *jobs_[i].stage;
      try {
        comm::enter_stage(stage.name());
        const auto name = "stage " + stage.name();
        const trace::Span span(name.c_str());
        context_.set_state_key(record.key);
        auto result = stage.run(context_);
        finish(stage, record, std::move(result));
        record.seconds += seconds_since(start);
      } catch (const Error& e) {
        if (!e.is_collective()) throw failure_of(stage.name(), e);  // on this rank alone
        record.seconds += seconds_since(start);
        record.status = "failed";
        record.error = failure_of(stage.name(), e).what();
        failure_kind_ = e.kind();
      }
      if (ranks.is_root()) outcomes += to_text(record) + '\n';
      if (record.status != "done") break;
    }
    return outcomes;
  }

  /// What all groups have done becomes known to all. Throws the first failure; false when a stage was
  /// stopped.
  bool take_outcomes(const std::string& outcomes) {
    // Lines of several hosts may have met in a file system that does not append at once, or a killed attempt may
    // have left some out.
    std::string events;
    for (const auto& lines : comm_.gather_strings(events_, "events")) events += lines;
    events_.clear();
    comm::agree(comm_, "metrics.jsonl", [&] {
      metrics_->check();
      if (comm_.is_root()) record_.complete_log(events);
    });
    metrics_.reset();
    std::string all;
    for (const auto& text : comm_.gather_strings(outcomes, "outcomes")) all += text;
    comm_.broadcast(all, 0, "outcomes");
    auto usage = static_cast<std::int32_t>(failure_kind_ == ErrorKind::kUsage);
    comm_.max_in_place(std::span(&usage, 1), "outcomes");
    std::vector<StageRecord> records;
    for (std::size_t at = 0; at < all.size();) {
      const auto end = all.find('\n', at);
      records.push_back(stage_record(all.substr(at, end - at)));
      at = end + 1;
    }
    for (const auto& record : records) take(record);
    for (const auto& record : records) {
      if (record.status != "failed") continue;
      throw Error(record.error, usage != 0 ? ErrorKind::kUsage : ErrorKind::kRun).collective();
    }
    return !report_.stopped;
  }

  void take(const StageRecord& record) {
    auto& job = jobs_[position(record.name)];
    comm::agree(comm_, "run.json", [&] {
      if (!comm_.is_root()) return;
      record_.put(record);
      if (job.continued) record_.merge_log(record.name);
      if (record.status == "done") fs::remove_all(context_.state_directory(record.name));
    });
    if (record.status == "failed") return;
    const bool stopped = record.status == "stopped";
    if (stopped) {
      report_.stopped = true;
      tell_where_it_continues(record.name);
    } else {
      job.done = true;
      context_.put(record.name, {directory_ / record.artifact, record.digest});
      forget_unused();
    }
    summarise(*job.stage, stopped ? StageStatus::kStopped : StageStatus::kDone, record);
  }

  // Newton and a federation's first round save no state.
  void tell_where_it_continues(const std::string& stage) const {
    if (!comm_.is_root()) return;
    const bool saved = fs::exists(context_.state_directory(stage));
    log::info(
        fmt::format("{}: stopped; it {}", stage,
                    saved ? "continues from its saved state" : "has saved no state and will start over"));
  }

  [[nodiscard]] static StageRecord new_record(const Job& job) {
    StageRecord record;
    record.name = job.stage->name();
    record.kind = job.stage->common().kind;
    record.what = job.stage->describe();
    record.key = job.key;
    record.seconds = job.earlier_seconds;
    return record;
  }

  /// Of a stage that did not come to run. Collective.
  [[noreturn]] void fail(StageRecord record, const Error& cause) {
    auto error = failure_of(record.name, cause);
    record.status = "failed";
    record.error = error.what();
    try {
      if (comm_.is_root()) record_.put(std::move(record));
    } catch (const Error& e) {
      log::warn(e.what());  // the stage's own error matters more
    }
    if (cause.is_collective()) throw std::move(error).collective();
    throw error;
  }

  /// Makes room for a stage's results. Collective.
  void begin(Job& job) {
    const auto& stage = *job.stage;
    comm::agree(comm_, stage.name(), [&] {
      if (!comm_.is_root()) return;
      auto record = new_record(job);
      const auto* before = record_.find(stage.name());
      const bool goes_on = !options_.fresh && before != nullptr && before->key == record.key;
      if (goes_on && before->digest.empty()) record.seconds = before->seconds;
      if (!goes_on && fs::remove_all(context_.state_directory(stage.name())) > 0) {
        log::info(fmt::format("{}: starts over, for the saved state is of other settings", stage.name()));
      }
      // Least squares and newton save no state, so that they start anew where others go on.
      if (fs::exists(context_.state_directory(stage.name()))) {
        record_.merge_log(stage.name());
        job.continued = true;
      } else {
        record_.forget_log(stage.name());
      }
      fs::create_directories(directory_ / stage.name());
      // A process that is killed leaves this, so that its saved state is known by its key.
      record.status = "running";
      record_.put(record);
      job.earlier_seconds = record.seconds;
    });
    log::info(fmt::format("{}: {}", stage.name(), stage.describe()));
  }

  /// Writes the artifact, and completes the record. Collective over the stage's ranks.
  void finish(const stages::Stage& stage, StageRecord& record, stages::StageResult result) {
    record.metrics = result.metrics;
    record.note = result.note;
    record.overlap = result.overlap;
    record.measurements = result.measurements;
    record.times = times_of_ranks(result.seconds);
    if (context_.comm().is_root()) events_ += log_lines(stage.name(), result);
    if (result.stopped) {
      record.status = "stopped";
      return;
    }
    record.artifact = artifact_name(stage).string();
    record.digest = write_artifact(context_, stage, result);
    context_.put(stage.name(), {directory_ / record.artifact, record.digest}, std::move(result.model));
    record.status = "done";
  }

  /// Of the stage's ranks, on all of them.
  [[nodiscard]] std::vector<stages::RankTime> times_of_ranks(const train::TrainSeconds& mine) const {
    const auto& ranks = context_.comm();
    constexpr std::size_t kWidth = 5;
    const std::array<double, kWidth> own = {static_cast<double>(comm_.rank()), mine.compute,
                                            mine.communication, mine.input, mine.checkpoint};
    std::vector<double> rows(kWidth * static_cast<std::size_t>(ranks.size()));
    ranks.gather_all<double>(own, rows, "times");
    std::vector<stages::RankTime> times;
    for (auto row = rows.begin(); row != rows.end(); row += kWidth) {
      if (row[1] > 0) times.push_back({static_cast<int>(row[0]), {row[1], row[2], row[3], row[4]}});
    }
    return times;
  }

  void summarise(const stages::Stage& stage, StageStatus status, const StageRecord& record) {
    if (!comm_.is_root()) return;
    report_.stages.push_back({stage.name(), stage.describe(), record.note, status, record.seconds,
                              record.artifact.empty() ? "" : (directory_ / record.artifact).string(),
                              record.metrics, record.measurements, record.times});
  }

  /// Frees models that no stage reads any more.
  void forget_unused() {
    std::set<std::string> needed;
    std::set<std::string> known;
    for (const auto& job : jobs_) {
      known.insert(job.stage->name());
      for (const auto& use : job.stage->uses().artifacts) {
        known.insert(use.name);
        if (!job.done) needed.insert(use.name);
      }
    }
    for (const auto& name : known) {
      if (!needed.contains(name)) context_.forget(name);
    }
  }

  void start_trace() const {
    comm_.barrier();
    trace::start();
  }

  // That of an earlier run says more than an empty one.
  void finish_trace() const {
    if (anything_ran_) {
      write_trace();
    } else {
      log::info("no stage has run: trace.json is left as it was");
    }
  }

  // Perfetto and chrome://tracing read it.
  void write_trace() const {
    std::string text;
    for (const auto& events : comm_.gather_strings(trace::take_events(comm_.rank()), "trace")) {
      text += (text.empty() ? "" : ",\n") + events;
    }
    comm::agree(comm_, "trace.json", [&] {
      if (comm_.is_root())
        write_file_atomically(directory_ / "trace.json", "{\"traceEvents\":[\n" + text + "\n]}\n");
    });
  }

  const comm::Comm& comm_;
  const stages::Deck& deck_;
  const stages::RunOptions& options_;
  fs::path directory_;
  DirectoryLock lock_;
  RunRecord record_;
  std::optional<MetricsLog> metrics_;  // while stages run
  std::string events_;                 // what this rank has written there, and should have, since then
  stages::RunContext context_;
  std::vector<Job> jobs_;  // in the deck's order
  bool anything_ran_ = false;
  ErrorKind failure_kind_ = ErrorKind::kRun;
  RunReport report_;
};

}  // namespace

RunReport run_deck(const comm::Comm& comm, const stages::Deck& deck, const stages::RunOptions& options) {
  return Runner(comm, deck, options).execute();
}

}  // namespace impart::runner

// run_deck: stages in order; a finished one whose key still holds is reused.

#include "impart/stages/runner.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>

#include "impart/core/digest.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/wisdom.hpp"
#include "impart/stages/commands.hpp"
#include "stages/directory_lock.hpp"
#include "stages/run_context.hpp"
#include "stages/run_record.hpp"
#include "stages/stage_key.hpp"

namespace impart::stages {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// The stage's name in front, once: the Trainer's messages begin with it already.
Error failure_of(const std::string& stage, const Error& cause) {
  const std::string text = cause.what();
  if (text.starts_with("stage " + stage + ": ")) return Error(text, cause.kind());
  if (text.starts_with(stage + ": ")) return Error("stage " + text, cause.kind());
  return std::move(Error(text, cause.kind()).at("stage " + stage));
}

class Runner {
 public:
  Runner(const comm::Comm& comm, const Deck& deck, const RunOptions& options)
      : comm_(comm),
        deck_(deck),
        options_(options),
        directory_(deck.run_directory()),
        record_(directory_, deck, comm.size(), options.threads),
        context_(comm, deck, options, [this](const std::string& stage, const train::TrainEvent& event) {
          if (comm_.is_root()) record_.log(stage, event);
        }) {
    for (const auto& settings : deck.stages) stages_.push_back(make_stage(settings));
  }

  RunReport execute() {
    take_wisdom();
    comm::agree(comm_, "run directory", [&] { prepare(); });
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      if (!selected(stages_[i]->name())) {
        adopt(*stages_[i]);
        continue;
      }
      if (stop_wanted() || !advance(*stages_[i])) {
        report_.stopped = true;
        break;
      }
      forget_after(i);
    }
    return std::move(report_);
  }

 private:
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
  }

  // A signal reaches some ranks sooner than others.
  [[nodiscard]] bool stop_wanted() const {
    std::int32_t wanted = options_.stop != nullptr && options_.stop->load() ? 1 : 0;
    comm_.max_in_place(std::span(&wanted, 1), "stop");
    return wanted != 0;
  }

  static fs::path artifact_name(const Stage& stage) {
    return fs::path(stage.name()) / (stage.common().kind == "evaluate" ? "metrics.json" : "model.h5");
  }

  /// The digest of a finished stage's artifact, verified; empty when there is none. Local.
  [[nodiscard]] std::string verified_digest(const Stage& stage) const {
    const auto path = directory_ / artifact_name(stage);
    if (!fs::exists(path)) return "";
    try {
      if (stage.common().kind == "evaluate") return Hasher().text(read_file(path)).finish().hex();
      return io::read_checkpoint(path).digest;
    } catch (const Error& e) {
      log::warn(fmt::format("{}; the stage runs again", e.what()));
      return "";
    }
  }

  /// A stage that was not asked for: what it left, if it is there, serves those that were. Collective.
  void adopt(const Stage& stage) {
    std::string digest;
    comm::agree(comm_, stage.name(), [&] {
      const auto* record = comm_.is_root() ? record_.find(stage.name()) : nullptr;
      if (record == nullptr || record->digest.empty()) return;
      if (const auto found = verified_digest(stage); found == record->digest) digest = found;
    });
    comm_.broadcast(digest, 0, "adopt");
    if (digest.empty()) return;
    if (comm_.is_root() && needed_by_selected(stage.name())) warn_of_changes(stage);
    context_.put(stage.name(), {directory_ / artifact_name(stage), digest}, std::nullopt);
  }

  [[nodiscard]] bool needed_by_selected(const std::string& name) const {
    return std::ranges::any_of(stages_, [&](const auto& stage) {
      const auto uses = stage->uses().artifacts;
      return selected(stage->name()) && std::ranges::find(uses, name, &ArtifactUse::name) != uses.end();
    });
  }

  /// What an artifact was made with may no longer be what the deck says. Local.
  void warn_of_changes(const Stage& stage) const {
    const auto made_with = io::read_summary(directory_ / artifact_name(stage)).lineage.stage;
    const auto changes = changed_settings(made_with, resolved_settings(deck_, stage));
    if (changes.empty()) return;
    log::warn(
        fmt::format("{}: its result is used as it is, but the deck has changed since: {} (to make it anew, "
                    "add the stage to --stages)",
                    stage.name(), fmt::join(changes, ", ")));
  }

  /// Digests of what the stage reads. Collective.
  std::map<std::string, std::string> input_digests(const Stage& stage) {
    std::map<std::string, std::string> digests;
    for (const auto& use : stage.uses().artifacts) {
      if (is_checkpoint_file(use.name)) {
        context_.model(use.name);  // reads the file, once
      } else if (context_.find(use.name) == nullptr) {
        throw Error(fmt::format("the artifact of stage '{}' is not there", use.name), ErrorKind::kUsage)
            .at("stage " + stage.name())
            .hint("run that stage first, or leave --stages out")
            .collective();
      }
      digests[use.name] = context_.find(use.name)->digest;
    }
    return digests;
  }

  std::map<std::string, std::string> data_fingerprints(const Stage& stage) {
    std::map<std::string, std::string> prints;
    for (const auto& name : stage.uses().datasets) prints[name] = context_.data(name).fingerprint;
    return prints;
  }

  /// Runs a stage or reuses it. False when it was stopped. Collective.
  bool advance(const Stage& stage) {
    StageRecord record;
    record.name = stage.name();
    record.kind = stage.common().kind;
    record.what = stage.describe();
    const auto start = Clock::now();
    try {
      record.key = stage_key(deck_, stage, input_digests(stage), data_fingerprints(stage));
      if (!options_.fresh && reuse(stage, record.key)) return true;
      begin(stage, record);
      auto result = stage.run(context_);
      record.seconds += std::chrono::duration<double>(Clock::now() - start).count();
      return finish(stage, std::move(record), std::move(result));
    } catch (const Error& e) {
      auto error = failure_of(stage.name(), e);
      record.seconds += std::chrono::duration<double>(Clock::now() - start).count();
      record_failure(std::move(record), error.what());
      if (e.is_collective()) throw std::move(error).collective();
      throw error;
    }
  }

  void record_failure(StageRecord record, const std::string& message) {
    if (!comm_.is_root()) return;
    record.status = "failed";
    record.error = message;
    try {
      record_.put(std::move(record));
    } catch (const Error& e) {
      log::warn(e.what());  // the stage's own error matters more
    }
  }

  /// Takes the finished stage's artifact, if its key and digest hold. Collective.
  bool reuse(const Stage& stage, const std::string& key) {
    StageRecord record;
    std::string digest;
    comm::agree(comm_, stage.name(), [&] {
      const auto* found = comm_.is_root() ? record_.find(stage.name()) : nullptr;
      if (found == nullptr || found->key != key || found->digest.empty()) return;
      if (verified_digest(stage) != found->digest) return;
      digest = found->digest;
      record = *found;
      record.status = "reused";
      record_.put(record);
    });
    comm_.broadcast(digest, 0, "reuse");
    if (digest.empty()) return false;
    context_.put(stage.name(), {directory_ / artifact_name(stage), digest}, std::nullopt);
    log::info(fmt::format("{}: reused", stage.name()));
    summarise(stage, StageStatus::kReused, record);
    return true;
  }

  void begin(const Stage& stage, StageRecord& record) {
    context_.set_state_key(record.key);
    comm::agree(comm_, stage.name(), [&] {
      if (!comm_.is_root()) return;
      const auto* before = record_.find(stage.name());
      const bool goes_on = !options_.fresh && before != nullptr && before->key == record.key;
      if (goes_on && before->digest.empty()) record.seconds = before->seconds;
      if (!goes_on) fs::remove_all(context_.state_directory(stage.name()));
      fs::create_directories(directory_ / stage.name());
      // A process that is killed leaves this, so that its saved state is known by its key.
      record.status = "running";
      record_.put(record);
    });
    // Nobody looks for a state before the root has removed an old one.
    comm_.barrier();
    log::info(fmt::format("{}: {}", stage.name(), record.what));
  }

  bool finish(const Stage& stage, StageRecord record, StageResult result) {
    record.metrics = result.metrics;
    record.note = result.note;
    record.measurements = result.measurements;
    record.time = result.seconds;
    if (result.stopped) {
      record.status = "stopped";
    } else {
      record.status = "done";
      record.artifact = artifact_name(stage).string();
      record.digest = write_artifact(stage, result);
      context_.put(stage.name(), {directory_ / record.artifact, record.digest}, std::move(result.model));
    }
    comm::agree(comm_, "run.json", [&] {
      if (!comm_.is_root()) return;
      record_.put(record);
      if (!result.stopped) fs::remove_all(context_.state_directory(stage.name()));
    });
    summarise(stage, result.stopped ? StageStatus::kStopped : StageStatus::kDone, record);
    return !result.stopped;
  }

  /// Returns the artifact's digest, on every rank. Collective.
  std::string write_artifact(const Stage& stage, const StageResult& result) {
    const auto path = directory_ / artifact_name(stage);
    const auto data = lineage_data(stage);
    std::string digest;
    comm::agree(comm_, "writing " + path.string(), [&] {
      if (!comm_.is_root()) return;
      if (!result.model) {
        const auto text = to_json(result.measurements);
        write_file_atomically(path, text);
        digest = Hasher().text(text).finish().hex();
        return;
      }
      io::Checkpoint checkpoint;
      checkpoint.model = share::to_record(*result.model);
      checkpoint.state = result.model->state.clone();
      checkpoint.progress = result.progress;
      checkpoint.metrics = result.history;
      for (const auto& [name, value] : result.metrics) {
        if (!checkpoint.metrics.contains(name)) checkpoint.metrics[name] = {{0, value}};
      }
      checkpoint.lineage = lineage(stage);
      checkpoint.lineage.data = data;
      io::write_checkpoint(path, checkpoint);
      digest = checkpoint.digest;
    });
    comm_.broadcast(digest, 0, "artifact digest");
    return digest;
  }

  [[nodiscard]] io::LineageRecord lineage(const Stage& stage) const {
    io::LineageRecord lineage;
    lineage.stage = resolved_settings(deck_, stage);
    lineage.ranks = comm_.size();
    lineage.mesh = fmt::format("data={}", comm_.size());
    lineage.isa = nn::kernel_isa();
    lineage.kernels = fmt::format("{}, {}", version_line(), nn::kernel_choice());
    const auto from = fs::absolute(directory_ / stage.name());
    for (const auto& use : stage.uses().artifacts) {
      const auto& [path, digest] = *context_.find(use.name);
      lineage.parents.push_back(
          {digest, fs::absolute(path).lexically_relative(from).string(), use.role, use.weight});
    }
    return lineage;
  }

  std::vector<io::DataRecord> lineage_data(const Stage& stage) {
    std::vector<io::DataRecord> records;
    for (const auto& name : stage.uses().datasets) {
      const auto& data = context_.data(name);
      records.push_back({name, data.fingerprint, data.all->size()});
    }
    return records;
  }

  void summarise(const Stage& stage, StageStatus status, const StageRecord& record) {
    if (!comm_.is_root()) return;
    report_.stages.push_back({stage.name(), stage.describe(), record.note, status, record.seconds,
                              record.artifact.empty() ? "" : (directory_ / record.artifact).string(),
                              record.metrics, record.measurements});
  }

  /// Frees models that no stage after `done` reads.
  void forget_after(std::size_t done) {
    const auto needed = [&](const std::string& name) {
      for (std::size_t i = done + 1; i < stages_.size(); ++i) {
        for (const auto& use : stages_[i]->uses().artifacts) {
          if (use.name == name) return true;
        }
      }
      return false;
    };
    if (!needed(stages_[done]->name())) context_.forget(stages_[done]->name());
    for (const auto& use : stages_[done]->uses().artifacts) {
      if (!needed(use.name)) context_.forget(use.name);
    }
  }

  const comm::Comm& comm_;
  const Deck& deck_;
  const RunOptions& options_;
  fs::path directory_;
  DirectoryLock lock_;
  RunRecord record_;
  RunContext context_;
  std::vector<std::unique_ptr<Stage>> stages_;
  RunReport report_;
};

}  // namespace

RunReport run_deck(const comm::Comm& comm, const Deck& deck, const RunOptions& options) {
  return Runner(comm, deck, options).execute();
}

}  // namespace impart::stages

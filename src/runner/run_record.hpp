// RunRecord: run.json and metrics.jsonl, what a run leaves beside its artifacts (DESIGN.md, section 6).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "impart/stages/stage.hpp"

namespace impart::runner {

/// One stage of run.json.
struct StageRecord {
  std::string name;
  std::string kind;
  std::string what;
  std::string note;    ///< as StageResult
  std::string status;  ///< "running", "done", "reused", "failed" or "stopped"
  std::string key;     ///< of the settings, inputs and data that it was made from
  double seconds = 0;
  std::string artifact;  ///< relative to the run directory; empty when there is none
  std::string digest;
  std::string error;  ///< of a failed stage
  std::map<std::string, double> metrics;
  std::vector<stages::Measurement> measurements;
  std::vector<stages::RankTime> times;  ///< of the ranks that trained
  /// How sums of gradients and the backward pass overlapped: the deck's `overlap`, or what "auto" has come
  /// to. Empty (and not in the file) on one rank, where ranks do not sum gradients, and in a training too
  /// short to choose.
  std::string overlap;
};

/// The rank that had most to do beside waiting for the others, and by which part of the mean it had more.
struct SlowestRank {
  int rank = 0;
  double behind = 0;
};
SlowestRank slowest_rank(const std::vector<stages::RankTime>& times);

/// A record as JSON, for other ranks and for run.json.
std::string to_text(const StageRecord& record);
StageRecord stage_record(const std::string& text);

/// The record of a run directory. Used by the root rank alone.
class RunRecord {
 public:
  /// Notes the time. Stages keep the deck's order in the file; those that the deck no longer has are dropped.
  RunRecord(std::filesystem::path directory, const stages::Deck& deck, int ranks, int threads);

  /// Takes the stages of an earlier run.json; a file that is not one is passed over with a warning.
  void load();
  [[nodiscard]] const StageRecord* find(const std::string& stage) const;
  /// Puts a stage's record in place, and writes the file so that it is complete or unchanged. Throws Error.
  void put(StageRecord record);
  /// Throws Error when metrics.jsonl cannot be written.
  void open_log();
  /// Adds those of `lines` to metrics.jsonl whose (stage, step, name) is not there yet. Throws Error.
  void complete_log(const std::string& lines);
  /// Empties metrics.jsonl.
  void clear_log();
  /// Takes a stage's lines out of metrics.jsonl, for it starts anew. Throws Error.
  void forget_log(const std::string& stage);
  /// Of a stage's lines with the same step and name leaves the last: an attempt that goes on from a saved
  /// state logs again what a killed one has logged after that. Throws Error.
  void merge_log(const std::string& stage);

 private:
  void keep(StageRecord record);
  void write() const;
  /// Leaves the lines of `stages` in metrics.jsonl that `wanted` (stage, step, name) says, which is asked of the
  /// last one first, and all of other stages. What is no line is dropped.
  void filter_log(const std::set<std::string>& stages,
                  const std::function<bool(const std::string&, std::int64_t, const std::string&)>& wanted);

  std::filesystem::path directory_;
  std::string name_;
  std::string deck_;
  std::vector<std::string> overrides_;
  std::string started_;
  int ranks_;
  int threads_;
  std::vector<std::string> order_;
  std::map<std::string, StageRecord> stages_;
  std::map<std::string, std::string> texts_;  // of stages_, as the file has them: runs may have very many
};

/// metrics.jsonl, to which the first rank of every group of ranks writes lines as they come.
class MetricsLog {
 public:
  explicit MetricsLog(std::filesystem::path path) : path_(std::move(path)) {}
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  ~MetricsLog();

  /// Appends whole lines, at once, so that lines of several ranks do not mix. What cannot be written is remembered:
  /// a training that goes well does not end for it.
  void append(const std::string& lines);
  /// Throws what was remembered.
  void check() const;

 private:
  std::filesystem::path path_;
  int file_ = -1;
  int error_ = 0;  // errno
};

/// A line of metrics.jsonl, with the time now.
std::string log_line(const std::string& stage, const train::TrainEvent& event);
/// The lines of all that a stage's result remembers, what earlier attempts have logged too.
std::string log_lines(const std::string& stage, const stages::StageResult& result);

/// The artifact of a stage that leaves a table, as JSON, with the settings that it was made with; and these back.
std::string to_json(const std::vector<stages::Measurement>& measurements, const std::string& settings);
std::string settings_of_table(const std::string& text);

/// More than a run record, or a table, has.
inline constexpr std::uintmax_t kMaxRecordBytes = std::uintmax_t{1} << 32;

}  // namespace impart::runner

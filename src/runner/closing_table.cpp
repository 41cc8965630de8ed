#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "impart/runner/runner.hpp"
#include "runner/run_record.hpp"

namespace impart::runner {

namespace {

// What a reader looks for first.
std::string chief_metric(const std::map<std::string, double>& metrics) {
  for (const auto* name : {"validation.accuracy", "accuracy"}) {
    if (const auto found = metrics.find(name); found != metrics.end()) {
      return fmt::format("{:.2f}% {}", 100 * found->second, name);
    }
  }
  for (const auto* name : {"validation.loss", "train.loss"}) {
    if (const auto found = metrics.find(name); found != metrics.end()) {
      return fmt::format("{:.4f} {}", found->second, name);
    }
  }
  return "";
}

std::string_view word_of(StageStatus status) {
  switch (status) {
    case StageStatus::kReused:
      return "reused";
    case StageStatus::kStopped:
      return "stopped";
    case StageStatus::kFailed:
      return "failed";
    case StageStatus::kDone:
      break;
  }
  return "";
}

std::string what_of(const StageSummary& stage) {
  auto what = stage.what;
  if (!stage.note.empty()) what += fmt::format(" ({})", stage.note);
  if (const auto word = word_of(stage.status); !word.empty()) what += fmt::format(" ({})", word);
  return what;
}

template <std::size_t N>
std::string aligned(const std::vector<std::array<std::string, N>>& rows, std::string_view sides) {
  std::array<std::size_t, N> width{};
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < N; ++c) width[c] = std::max(width[c], row[c].size());
  }
  std::string table;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t c = 0; c < N; ++c) {
      line += c == 0 ? "" : "  ";
      line +=
          sides[c] == '<' ? fmt::format("{:<{}}", row[c], width[c]) : fmt::format("{:>{}}", row[c], width[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    table += line + '\n';
    if (&row == &rows.front()) table += std::string(line.size(), '-') + '\n';
  }
  return table;
}

// Where the time of stages that train went: the mean over their ranks, and who was last.
std::string time_table(const RunReport& report) {
  std::vector<std::array<std::string, 7>> rows = {
      {"stage", "ranks", "compute", "communication", "input", "checkpoint", "slowest rank"}};
  for (const auto& stage : report.stages) {
    if (stage.times.empty() || stage.status == StageStatus::kReused) continue;
    double parts[4] = {};
    for (const auto& [rank, seconds] : stage.times) {
      parts[0] += seconds.compute;
      parts[1] += seconds.communication;
      parts[2] += seconds.input;
      parts[3] += seconds.checkpoint;
    }
    const double all = parts[0] + parts[1] + parts[2] + parts[3];
    const auto share = [&](int i) { return fmt::format("{:.1f}%", 100 * parts[i] / all); };
    const auto [rank, behind] = slowest_rank(stage.times);
    rows.push_back({stage.name, std::to_string(stage.times.size()), share(0), share(1), share(2), share(3),
                    stage.times.size() == 1 ? "" : fmt::format("{} (+{:.1f}%)", rank, 100 * behind)});
  }
  return rows.size() == 1 ? "" : '\n' + aligned(rows, "<>>>>><");
}

}  // namespace

std::string closing_table(const RunReport& report) {
  std::vector<std::array<std::string, 5>> rows = {{"stage", "what", "metric", "seconds", "artifact"}};
  for (const auto& stage : report.stages) {
    rows.push_back({stage.name, what_of(stage), chief_metric(stage.metrics),
                    fmt::format("{:.1f}", stage.seconds), stage.artifact});
    for (const auto& each : stage.measurements) {
      rows.push_back({"  " + each.model,
                      fmt::format("on {} samples of {}, {}", each.samples, each.dataset, each.part),
                      chief_metric(each.metrics), "", ""});
    }
  }
  return aligned(rows, "<<<><") + time_table(report);
}

}  // namespace impart::runner

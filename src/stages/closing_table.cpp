#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "impart/stages/runner.hpp"

namespace impart::stages {

namespace {

using Row = std::array<std::string, 5>;

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

}  // namespace

std::string closing_table(const RunReport& report) {
  std::vector<Row> rows = {{"stage", "what", "metric", "seconds", "artifact"}};
  for (const auto& stage : report.stages) {
    rows.push_back({stage.name, what_of(stage), chief_metric(stage.metrics),
                    fmt::format("{:.1f}", stage.seconds), stage.artifact});
    for (const auto& each : stage.measurements) {
      rows.push_back({"  " + each.model,
                      fmt::format("on {} samples of {}, {}", each.samples, each.dataset, each.part),
                      chief_metric(each.metrics), "", ""});
    }
  }
  std::array<std::size_t, 5> width{};
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], row[c].size());
  }
  std::string table;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto& row = rows[r];
    auto line = fmt::format("{:<{}}  {:<{}}  {:<{}}  {:>{}}  {}", row[0], width[0], row[1], width[1], row[2],
                            width[2], row[3], width[3], row[4]);
    line.erase(line.find_last_not_of(' ') + 1);
    table += line + '\n';
    if (r == 0) table += std::string(line.size(), '-') + '\n';
  }
  return table;
}

}  // namespace impart::stages

#include "runner/run_record.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "impart/core/error.hpp"
#include "impart/core/files.hpp"
#include "impart/core/log.hpp"

namespace impart::runner {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// JSON has no NaN.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json numbers(const std::map<std::string, double>& values) {
  Json json = Json::object();
  for (const auto& [name, value] : values) json[name] = number(value);
  return json;
}

std::map<std::string, double> to_numbers(const Json& json) {
  std::map<std::string, double> values;
  for (const auto& [name, value] : json.items()) {
    values[name] = value.is_number() ? value.get<double>() : std::nan("");
  }
  return values;
}

Json rows_of(const std::vector<stages::Measurement>& measurements) {
  Json rows = Json::array();
  for (const auto& each : measurements) {
    rows.push_back({{"model", each.model},
                    {"dataset", each.dataset},
                    {"part", each.part},
                    {"samples", each.samples},
                    {"metrics", numbers(each.metrics)}});
  }
  return rows;
}

Json to_json(const train::TrainSeconds& time) {
  return {{"compute", time.compute},
          {"communication", time.communication},
          {"input", time.input},
          {"checkpoint", time.checkpoint}};
}

train::TrainSeconds mean_of(const std::vector<stages::RankTime>& times) {
  train::TrainSeconds mean;
  const auto count = static_cast<double>(times.size());
  for (const auto& [rank, seconds] : times) {
    mean.compute += seconds.compute / count;
    mean.communication += seconds.communication / count;
    mean.input += seconds.input / count;
    mean.checkpoint += seconds.checkpoint / count;
  }
  return mean;
}

Json to_json(const StageRecord& stage) {
  Json json = {{"name", stage.name},
               {"kind", stage.kind},
               {"what", stage.what},
               {"status", stage.status},
               {"key", stage.key},
               {"seconds", stage.seconds},
               {"artifact", stage.artifact},
               {"digest", stage.digest},
               {"metrics", numbers(stage.metrics)},
               {"time", to_json(mean_of(stage.times))}};
  if (stage.times.size() > 1) {
    const auto [rank, behind] = slowest_rank(stage.times);
    json["slowest"] = {{"rank", rank}, {"behind", behind}};
  }
  for (const auto& [rank, seconds] : stage.times) {
    auto row = to_json(seconds);
    row["rank"] = rank;
    json["ranks"].push_back(std::move(row));
  }
  if (!stage.measurements.empty()) json["measurements"] = rows_of(stage.measurements);
  if (!stage.overlap.empty()) json["overlap"] = stage.overlap;
  if (!stage.note.empty()) json["note"] = stage.note;
  if (!stage.error.empty()) json["error"] = stage.error;
  return json;
}

StageRecord from_json(const Json& json) {
  StageRecord stage;
  stage.name = json.at("name").get<std::string>();
  stage.kind = json.at("kind").get<std::string>();
  stage.what = json.at("what").get<std::string>();
  stage.status = json.at("status").get<std::string>();
  stage.key = json.at("key").get<std::string>();
  stage.seconds = json.at("seconds").get<double>();
  stage.artifact = json.at("artifact").get<std::string>();
  stage.digest = json.at("digest").get<std::string>();
  stage.metrics = to_numbers(json.at("metrics"));
  for (const auto& row : json.value("ranks", Json::array())) {
    stage.times.push_back({row.at("rank").get<int>(),
                           {row.at("compute").get<double>(), row.at("communication").get<double>(),
                            row.at("input").get<double>(), row.at("checkpoint").get<double>()}});
  }
  stage.overlap = json.value("overlap", "");
  stage.note = json.value("note", "");
  stage.error = json.value("error", "");
  const auto rows = json.value("measurements", Json::array());
  for (const auto& row : rows) {
    stage.measurements.push_back({row.at("model").get<std::string>(), row.at("dataset").get<std::string>(),
                                  row.at("part").get<std::string>(), row.at("samples").get<std::int64_t>(),
                                  to_numbers(row.at("metrics"))});
  }
  return stage;
}

// Whether a line of metrics.jsonl is plainly of none of `stages`: runs of many stages have many lines, and reading
// each one for each of the stages would take most of their time.
bool is_of_others(std::string_view line, const std::set<std::string>& stages) {
  constexpr std::string_view kBegin = "{\"stage\":\"";
  if (!line.starts_with(kBegin) || !line.ends_with("}\n")) return false;
  line.remove_prefix(kBegin.size());
  const auto end = line.find_first_of("\"\\");
  return end != std::string_view::npos && line[end] == '"' &&
         !stages.contains(std::string(line.substr(0, end)));
}

// All lines so many spaces further in. Texts in JSON have no ends of lines.
std::string indented(const std::string& text, std::size_t spaces) {
  const std::string before(spaces, ' ');
  auto result = before;
  for (const char c : text) {
    result += c;
    if (c == '\n') result += before;
  }
  return result;
}

// ISO 8601, UTC.
std::string time_now() { return fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr))); }

[[noreturn]] void fail(const fs::path& path, const char* what) {
  throw Error(what).at(path.string()).got(std::strerror(errno)).hint("check permissions and free space");
}

/// Calls `take` with each line, its end included.
template <class Take>
void for_lines(std::string_view text, Take take) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size() - 1) + 1;
    take(text.substr(0, end));
    text.remove_prefix(end);
  }
}

}  // namespace

SlowestRank slowest_rank(const std::vector<stages::RankTime>& times) {
  double sum = 0;
  double most = -1;
  SlowestRank slowest;
  for (const auto& [rank, seconds] : times) {
    const double own = seconds.compute + seconds.input + seconds.checkpoint;
    sum += own;
    if (own > most) slowest.rank = rank;
    most = std::max(most, own);
  }
  if (sum > 0) slowest.behind = most * static_cast<double>(times.size()) / sum - 1;
  return slowest;
}

std::string to_text(const StageRecord& record) { return to_json(record).dump(); }

StageRecord stage_record(const std::string& text) { return from_json(Json::parse(text)); }

std::string log_line(const std::string& stage, const train::TrainEvent& event) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  const Json line = {{"stage", stage},     {"epoch", event.epoch},         {"step", event.step},
                     {"name", event.name}, {"value", number(event.value)}, {"t", now.count()}};
  return line.dump() + '\n';
}

std::string log_lines(const std::string& stage, const stages::StageResult& result) {
  std::string lines;
  const auto steps = result.progress ? std::max<std::int64_t>(1, result.progress->step) : 1;
  const auto epochs = result.progress ? result.progress->epoch : 0;
  for (const auto& [name, points] : result.history) {
    for (const auto& [step, value] : points)
      lines += log_line(stage, {step * epochs / steps, step, name, value});
  }
  return lines;
}

std::string to_json(const std::vector<stages::Measurement>& measurements, const std::string& settings) {
  return Json{{"measurements", rows_of(measurements)}, {"made_with", Json::parse(settings)}}.dump(1) + "\n";
}

std::string settings_of_table(const std::string& text) {
  const auto json = Json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("made_with")) throw Error("a table that does not say its settings");
  return json.at("made_with").dump();
}

RunRecord::RunRecord(fs::path directory, const stages::Deck& deck, int ranks, int threads)
    : directory_(std::move(directory)),
      name_(deck.run.name),
      deck_(deck.path.string()),
      overrides_(deck.overrides),
      started_(time_now()),
      ranks_(ranks),
      threads_(threads) {
  for (const auto& stage : deck.stages) order_.push_back(stage->name());
}

void RunRecord::load() {
  const auto path = directory_ / "run.json";
  if (!fs::exists(path)) return;
  try {
    const auto run = Json::parse(read_file(path, kMaxRecordBytes));
    for (const auto& entry : run.at("stages")) {
      auto stage = from_json(entry);
      if (std::ranges::find(order_, stage.name) != order_.end()) keep(std::move(stage));
    }
  } catch (const std::exception& e) {
    log::warn(path.string() + " is not a run record, so nothing is reused: " + e.what());
    stages_.clear();
    texts_.clear();
  }
}

const StageRecord* RunRecord::find(const std::string& stage) const {
  const auto found = stages_.find(stage);
  return found == stages_.end() ? nullptr : &found->second;
}

void RunRecord::put(StageRecord record) {
  keep(std::move(record));
  write();
}

void RunRecord::keep(StageRecord record) {
  texts_[record.name] = indented(to_json(record).dump(1), 2);
  stages_[record.name] = std::move(record);
}

void RunRecord::write() const {
  const Json run = {
      {"name", name_},   {"deck", deck_},       {"set", overrides_},        {"started", started_},
      {"ranks", ranks_}, {"threads", threads_}, {"version", IMPART_VERSION}};
  auto text = run.dump(1);
  text.resize(text.rfind('\n'));
  text += ",\n \"stages\": [";
  bool first = true;
  for (const auto& name : order_) {
    const auto found = texts_.find(name);
    if (found == texts_.end()) continue;
    text += first ? "\n" : ",\n";
    text += found->second;
    first = false;
  }
  text += "\n ]\n}\n";
  write_file_atomically(directory_ / "run.json", text);
}

void RunRecord::open_log() {
  const auto path = directory_ / "metrics.jsonl";
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0) fail(path, "cannot be written");
  struct stat status {};
  const bool is_regular = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  close(file);
  if (!is_regular) throw Error("not a file").at(path.string()).hint("remove it");
}

void RunRecord::complete_log(const std::string& lines) {
  std::set<std::string> stages;
  for_lines(lines, [&](std::string_view line) { stages.insert(Json::parse(line).at("stage")); });
  std::set<std::tuple<std::string, std::int64_t, std::string>> known;
  filter_log(stages, [&](const std::string& stage, std::int64_t step, const std::string& name) {
    known.emplace(stage, step, name);
    return true;
  });
  std::string missing;
  for_lines(lines, [&](std::string_view line) {
    const auto json = Json::parse(line);
    if (known.emplace(json.at("stage"), json.at("step"), json.at("name")).second) missing += line;
  });
  MetricsLog log(directory_ / "metrics.jsonl");
  log.append(missing);
  log.check();
}

MetricsLog::~MetricsLog() {
  if (file_ >= 0) close(file_);
}

void MetricsLog::append(const std::string& lines) {
  if (lines.empty() || error_ != 0) return;
  if (file_ < 0) file_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const auto written = file_ < 0 ? -1 : write(file_, lines.data(), lines.size());
  if (written == static_cast<ssize_t>(lines.size())) return;
  error_ = written < 0 ? errno : ENOSPC;
}

void MetricsLog::check() const {
  if (error_ == 0) return;
  errno = error_;
  fail(path_, "cannot be written");
}

void RunRecord::clear_log() {
  std::error_code error;
  fs::remove(directory_ / "metrics.jsonl", error);
}

void RunRecord::forget_log(const std::string& stage) {
  filter_log({stage}, [](const std::string&, std::int64_t, const std::string&) { return false; });
}

void RunRecord::merge_log(const std::string& stage) {
  std::set<std::pair<std::int64_t, std::string>> seen;
  filter_log({stage}, [&](const std::string&, std::int64_t step, const std::string& name) {
    return seen.emplace(step, name).second;
  });
}

void RunRecord::filter_log(
    const std::set<std::string>& stages,
    const std::function<bool(const std::string&, std::int64_t, const std::string&)>& wanted) {
  const auto path = directory_ / "metrics.jsonl";
  if (!fs::exists(path)) return;
  const auto text = read_file(path, kMaxRecordBytes);
  std::vector<std::string> kept;  // the last line first
  std::size_t bytes = 0;
  for (std::size_t end = text.size(); end > 0;) {
    const auto before = end == 1 ? std::string::npos : text.rfind('\n', end - 2);
    const auto begin = before == std::string::npos ? 0 : before + 1;
    auto line = text.substr(begin, end - begin);
    end = begin;
    if (is_of_others(line, stages)) {
      bytes += line.size();
      kept.push_back(std::move(line));
      continue;
    }
    // A process that is killed may leave a part of a line.
    const auto json = Json::parse(line, nullptr, false);
    if (!json.is_object() || !line.ends_with('\n')) continue;
    const auto stage = json.value("stage", "");
    if (stages.contains(stage) && !wanted(stage, json.value("step", std::int64_t{0}), json.value("name", "")))
      continue;
    bytes += line.size();
    kept.push_back(std::move(line));
  }
  if (bytes == text.size()) return;
  std::string rest;
  rest.reserve(bytes);
  for (auto line = kept.rbegin(); line != kept.rend(); ++line) rest += *line;
  write_file_atomically(path, rest);
}

}  // namespace impart::runner

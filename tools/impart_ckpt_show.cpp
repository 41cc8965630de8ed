#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "impart/io/checkpoint.hpp"
#include "impart_ckpt.hpp"
#include "impart_ckpt_json.hpp"

namespace impart::tool {

namespace {

const char* kind_text(StateKind kind) { return kind == StateKind::kParameter ? "parameter" : "buffer"; }

Json shape_json(const Shape& shape) {
  return std::vector<std::int64_t>(shape.dims().begin(), shape.dims().end());
}

// A text that holds JSON as JSON, any other as text.
Json embedded(const std::string& text) {
  auto json = Json::parse(text, nullptr, false);
  return json.is_discarded() ? Json(text) : json;
}

std::int64_t values_of(const io::CheckpointSummary& summary) {
  std::int64_t count = 0;
  for (const auto& tensor : summary.tensors) count += tensor.shape.elements();
  return count;
}

std::string size_text(std::uintmax_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double size = static_cast<double>(bytes);
  for (const char* unit : {"kB", "MB", "GB"}) {
    size /= 1000;
    if (size < 1000) return fmt::format("{:.1f} {}", size, unit);
  }
  return fmt::format("{:.1f} TB", size / 1000);
}

Json progress_json(const io::ProgressRecord& progress) {
  return {{"stage", progress.stage},     {"epoch", progress.epoch}, {"step", progress.step},
          {"samples", progress.samples}, {"seed", progress.seed},   {"extra", progress.extra}};
}

Json lineage_json(const io::LineageRecord& lineage) {
  Json parents = Json::array();
  for (const auto& parent : lineage.parents) {
    parents.push_back(
        {{"role", parent.role}, {"weight", parent.weight}, {"path", parent.path}, {"digest", parent.digest}});
  }
  Json data = Json::array();
  for (const auto& set : lineage.data) {
    data.push_back({{"name", set.name}, {"samples", set.samples}, {"fingerprint", set.fingerprint}});
  }
  return {{"stage", embedded(lineage.stage)},
          {"ranks", lineage.ranks},
          {"mesh", lineage.mesh},
          {"isa", lineage.isa},
          {"kernels", lineage.kernels},
          {"parents", parents},
          {"data", data}};
}

Json info_json(const fs::path& file, const io::CheckpointSummary& summary) {
  Json json{{"file", file.string()},
            {"bytes", fs::file_size(file)},
            {"digest", summary.digest},
            {"created", summary.created},
            {"version", summary.writer},
            {"model",
             {{"spec", embedded(summary.model.spec)},
              {"input_shape", shape_json(summary.model.input_shape)},
              {"classes", summary.model.classes}}},
            {"tensors", summary.tensors.size()},
            {"parameters", summary.parameter_count()}};
  json["optimizer"] = nullptr;
  if (summary.optimizer) {
    Json slots = Json::array();
    for (const auto& [slot, tensors] : summary.optimizer->slots) slots.push_back(slot);
    json["optimizer"] = {{"kind", summary.optimizer->kind}, {"slots", slots}};
  }
  json["progress"] = summary.progress ? progress_json(*summary.progress) : Json(nullptr);
  json["lineage"] = lineage_json(summary.lineage);
  json["metrics"] = Json::object();
  for (const auto& [name, points] : summary.metrics) {
    auto& list = json["metrics"][name] = Json::array();
    for (const auto& point : points) list.push_back({{"step", point.step}, {"value", point.value}});
  }
  return json;
}

void row(std::string_view label, const std::string& text) { fmt::print("{:<11} {}\n", label, text); }

// What samples go through before they reach the network; an ensemble's members each have their own.
void print_inputs(const std::string& spec) {
  const auto json = Json::parse(spec, nullptr, false);
  if (!json.is_object()) return;
  if (const auto found = json.find("normalisation"); found != json.end()) {
    const auto mean = found->value("mean", std::vector<double>());
    if (!mean.empty()) {
      row("inputs",
          fmt::format("(x * scale - mean) / deviation, mean {:.6g}, deviation {:.6g}", fmt::join(mean, " "),
                      fmt::join(found->value("deviation", std::vector<double>()), " ")));
    }
  }
  if (const auto found = json.find("vocabulary"); found != json.end()) {
    row("inputs", fmt::format("characters, {} distinct ones", found->size()));
  }
}

void print_training(const io::CheckpointSummary& summary) {
  if (summary.optimizer) {
    std::vector<std::string> slots;
    for (const auto& [slot, tensors] : summary.optimizer->slots) slots.push_back(slot);
    row("optimizer", slots.empty() ? summary.optimizer->kind
                                   : fmt::format("{} ({})", summary.optimizer->kind, fmt::join(slots, ", ")));
  }
  if (summary.progress) {
    const auto& progress = *summary.progress;
    row("progress", fmt::format("stage {}, epoch {}, step {}, {} samples, seed {}", progress.stage,
                                progress.epoch, progress.step, progress.samples, progress.seed));
  }
}

void print_origin(const io::LineageRecord& lineage) {
  std::string where = fmt::format("{} on {} {}", stage_text(lineage.stage), lineage.ranks,
                                  lineage.ranks == 1 ? "rank" : "ranks");
  for (const auto& part : {lineage.mesh, lineage.isa, lineage.kernels}) {
    if (!part.empty()) where += ", " + part;
  }
  row("made by", where);
  for (const auto& parent : lineage.parents) {
    row("parent", fmt::format("{} {}  {}  weight {:.6g}", parent.role, parent.path,
                              short_digest(parent.digest), parent.weight));
  }
  for (const auto& set : lineage.data) {
    row("data", fmt::format("{}  {} samples  {}", set.name, set.samples, short_digest(set.fingerprint)));
  }
}

struct TensorStats {
  double min = std::numeric_limits<double>::quiet_NaN();  // stays so when no value is a number
  double max = min, mean = min;
  double norm = 0;
  std::int64_t zeros = 0, nans = 0;
};

TensorStats stats_of(std::span<const float> values) {
  TensorStats stats;
  double sum = 0;
  double squares = 0;
  std::int64_t numbers = 0;
  for (const float x : values) {
    if (std::isnan(x)) {
      ++stats.nans;
      continue;
    }
    const double value = x;
    stats.min = numbers == 0 ? value : std::min(stats.min, value);
    stats.max = numbers == 0 ? value : std::max(stats.max, value);
    stats.zeros += value == 0 ? 1 : 0;
    sum += value;
    squares += value * value;
    ++numbers;
  }
  if (numbers != 0) stats.mean = sum / static_cast<double>(numbers);
  stats.norm = std::sqrt(squares);
  return stats;
}

std::size_t name_width(const std::vector<std::string>& names) {
  std::size_t width = 4;
  for (const auto& name : names) width = std::max(width, name.size());
  return width;
}

}  // namespace

std::string stage_text(const std::string& stage_json) {
  auto json = Json::parse(stage_json, nullptr, false);
  // A run's record holds the models and datasets beside the stage; a bare stage is fine, too.
  if (json.is_object() && json.contains("stage") && json["stage"].is_object()) json = Json(json["stage"]);
  if (!json.is_object() || !json.contains("name") || !json["name"].is_string()) return "unknown";
  auto name = json["name"].get<std::string>();
  if (!json.contains("kind") || !json["kind"].is_string()) return name;
  return fmt::format("{} ({})", name, json["kind"].get<std::string>());
}

std::string short_digest(const std::string& digest) { return digest.substr(0, 12); }

int info(const Arguments& arguments) {
  const auto& file = arguments.files.front();
  const auto summary = io::read_summary(file);
  if (arguments.json) {
    print_json(info_json(file, summary));
    return 0;
  }
  row("file", fmt::format("{} ({})", file.string(), size_text(fs::file_size(file))));
  row("digest", summary.digest);
  row("created", fmt::format("{} by impart {}", summary.created, summary.writer));
  row("model", fmt::format("input {}, {} classes", summary.model.input_shape.str(), summary.model.classes));
  print_inputs(summary.model.spec);
  row("tensors", fmt::format("{}, {} parameters, {} values in buffers", summary.tensors.size(),
                             summary.parameter_count(), values_of(summary) - summary.parameter_count()));
  print_training(summary);
  print_origin(summary.lineage);
  for (const auto& [name, points] : summary.metrics) {
    if (!points.empty()) {
      row("metric", fmt::format("{}  {:.6g} at step {}", name, points.back().value, points.back().step));
    }
  }
  return 0;
}

int list(const Arguments& arguments) {
  const auto summary = io::read_summary(arguments.files.front());
  if (arguments.json) {
    Json tensors = Json::array();
    for (const auto& tensor : summary.tensors) {
      tensors.push_back({{"name", tensor.name},
                         {"kind", kind_text(tensor.kind)},
                         {"shape", shape_json(tensor.shape)},
                         {"digest", tensor.digest}});
    }
    print_json(tensors);
    return 0;
  }
  std::vector<std::string> names;
  for (const auto& tensor : summary.tensors) names.push_back(tensor.name);
  const auto width = name_width(names);
  fmt::print("{:<{}}  {:<9}  {:>14}  {:>11}  digest\n", "name", width, "kind", "shape", "values");
  for (const auto& tensor : summary.tensors) {
    fmt::print("{:<{}}  {:<9}  {:>14}  {:>11}  {}\n", tensor.name, width, kind_text(tensor.kind),
               tensor.shape.str(), tensor.shape.elements(), short_digest(tensor.digest));
  }
  return 0;
}

int stats(const Arguments& arguments) {
  const auto checkpoint = io::read_checkpoint(arguments.files.front());
  const auto entries = checkpoint.state.layout().entries();
  if (arguments.json) {
    Json tensors = Json::array();
    for (const auto& entry : entries) {
      const auto s = stats_of(checkpoint.state.values(entry));
      tensors.push_back({{"name", entry.name},
                         {"kind", kind_text(entry.kind)},
                         {"values", entry.shape.elements()},
                         {"min", s.min},
                         {"max", s.max},
                         {"mean", s.mean},
                         {"norm", s.norm},
                         {"zeros", s.zeros},
                         {"nan", s.nans}});
    }
    print_json(tensors);
    return 0;
  }
  std::vector<std::string> names;
  for (const auto& entry : entries) names.push_back(entry.name);
  const auto width = name_width(names);
  fmt::print("{:<{}}  {:>10}  {:>11}  {:>11}  {:>11}  {:>11}  {:>8}  {:>8}\n", "name", width, "values", "min",
             "max", "mean", "norm", "zeros", "NaN");
  for (const auto& entry : entries) {
    const auto s = stats_of(checkpoint.state.values(entry));
    fmt::print("{:<{}}  {:>10}  {:>11.4g}  {:>11.4g}  {:>11.4g}  {:>11.4g}  {:>8}  {:>8}\n", entry.name,
               width, entry.shape.elements(), s.min, s.max, s.mean, s.norm, s.zeros, s.nans);
  }
  return 0;
}

}  // namespace impart::tool

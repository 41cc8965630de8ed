#include "impart/io/checkpoint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <system_error>

#include "impart/core/digest.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "io/checkpoint_format.hpp"

namespace impart::io {

namespace {

constexpr std::string_view kStepPrefix = "step-";
constexpr std::string_view kStepSuffix = ".h5";
constexpr std::string_view kTemporarySuffix = ".tmp";

void add_count(Hasher& hasher, std::size_t count) { hasher.number(static_cast<std::int64_t>(count)); }

void add_real(Hasher& hasher, double value) { hasher.number(std::bit_cast<std::int64_t>(value)); }

void add_tensors(Hasher& hasher, std::span<const TensorInfo> tensors) {
  add_count(hasher, tensors.size());
  for (const auto& tensor : tensors) hasher.text(kind_word(tensor.kind)).text(tensor.digest);
}

void add_optimizer(Hasher& hasher, const OptimizerSummary& optimizer) {
  hasher.text("optimizer").text(optimizer.kind);
  add_count(hasher, optimizer.slots.size());
  for (const auto& [name, tensors] : optimizer.slots) {
    hasher.text(name);
    add_tensors(hasher, tensors);
  }
}

void add_progress(Hasher& hasher, const ProgressRecord& progress) {
  hasher.text("progress").text(progress.stage).number(progress.epoch).number(progress.step);
  hasher.number(progress.samples).number(std::bit_cast<std::int64_t>(progress.seed));
  add_count(hasher, progress.extra.size());
  for (const auto& [name, value] : progress.extra) add_real(hasher.text(name), value);
}

void add_lineage(Hasher& hasher, const LineageRecord& lineage) {
  hasher.text("lineage").text(lineage.stage).number(lineage.ranks);
  hasher.text(lineage.mesh).text(lineage.isa).text(lineage.kernels);
  add_count(hasher, lineage.parents.size());
  for (const auto& parent : lineage.parents) {
    add_real(hasher.text(parent.digest).text(parent.path).text(parent.role), parent.weight);
  }
  add_count(hasher, lineage.data.size());
  for (const auto& data : lineage.data) hasher.text(data.name).text(data.fingerprint).number(data.samples);
}

}  // namespace

const char* kind_word(StateKind kind) { return kind == StateKind::kParameter ? "parameter" : "buffer"; }

const char* group_name(StateKind kind) { return kind == StateKind::kParameter ? "parameters" : "buffers"; }

std::int64_t CheckpointSummary::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& tensor : tensors) {
    if (tensor.kind == StateKind::kParameter) count += tensor.shape.elements();
  }
  return count;
}

std::string root_digest(const ModelRecord& model, std::span<const TensorInfo> tensors) {
  Hasher hasher;
  hasher.text("impart model").text(model.spec);
  add_count(hasher, model.input_shape.rank());
  for (const auto extent : model.input_shape.dims()) hasher.number(extent);
  hasher.number(model.classes);
  add_tensors(hasher, tensors);
  return hasher.finish().hex();
}

std::string root_digest(const ModelRecord& model, const StateDict& state) {
  std::vector<TensorInfo> tensors;
  if (!state.empty()) {
    for (const auto& entry : state.layout().entries()) {
      tensors.push_back({entry.name, entry.shape, entry.kind,
                         tensor_digest(entry.name, entry.shape.dims(), state.values(entry)).hex()});
    }
  }
  return root_digest(model, tensors);
}

std::string file_digest(const CheckpointSummary& summary) {
  Hasher hasher;
  hasher.text("impart file").text(summary.digest).text(summary.created).text(summary.writer);
  if (summary.optimizer) add_optimizer(hasher, *summary.optimizer);
  if (summary.progress) add_progress(hasher, *summary.progress);
  add_lineage(hasher, summary.lineage);
  hasher.text("metrics");
  add_count(hasher, summary.metrics.size());
  for (const auto& [name, points] : summary.metrics) {
    hasher.text(name);
    add_count(hasher, points.size());
    for (const auto& point : points) add_real(hasher.number(point.step), point.value);
  }
  return hasher.finish().hex();
}

std::string step_file_name(std::int64_t step) { return fmt::format("step-{:08}.h5", step); }

std::optional<std::int64_t> step_of(const std::filesystem::path& path) {
  const auto name = path.filename().string();
  if (!name.starts_with(kStepPrefix) || !name.ends_with(kStepSuffix)) return std::nullopt;
  std::int64_t step = 0;
  const auto* begin = name.data() + kStepPrefix.size();
  const auto* end = name.data() + name.size() - kStepSuffix.size();
  if (end <= begin) return std::nullopt;
  const auto [rest, error] = std::from_chars(begin, end, step);
  if (error != std::errc{} || rest != end || step < 0) return std::nullopt;
  return step;
}

bool is_temporary(const std::filesystem::path& path) {
  const auto name = path.filename().string();
  return name.starts_with('.') && name.ends_with(kTemporarySuffix) && name.find(".h5.") != std::string::npos;
}

std::optional<std::pair<std::filesystem::path, Checkpoint>> read_newest(
    const std::filesystem::path& directory) {
  if (!std::filesystem::exists(directory)) return std::nullopt;
  std::error_code failure;
  std::vector<std::pair<std::int64_t, std::filesystem::path>> files;
  std::filesystem::directory_iterator entry(directory, failure);
  for (; !failure && entry != std::filesystem::directory_iterator(); entry.increment(failure)) {
    if (const auto step = step_of(entry->path())) files.emplace_back(*step, entry->path());
  }
  if (failure) throw Error("cannot list the directory").at(directory.string()).got(failure.message());
  std::sort(files.rbegin(), files.rend());
  for (const auto& [step, path] : files) {
    try {
      return std::pair(path, read_checkpoint(path));
    } catch (const Error& error) {
      log::warn(fmt::format("{}; passing over it to an older checkpoint", error.what()));
    }
  }
  return std::nullopt;
}

}  // namespace impart::io

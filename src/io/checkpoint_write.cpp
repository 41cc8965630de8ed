#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

#include "impart/core/digest.hpp"
#include "impart/core/error.hpp"
#include "impart/core/files.hpp"
#include "impart/io/checkpoint.hpp"
#include "io/checkpoint_format.hpp"
#include "io/hdf5.hpp"

namespace impart::io {

namespace {

namespace fs = std::filesystem;

std::vector<TensorInfo> tensor_infos(const StateDict& state) {
  std::vector<TensorInfo> infos;
  if (state.empty()) return infos;
  for (const auto& entry : state.layout().entries()) {
    infos.push_back({entry.name, entry.shape, entry.kind,
                     tensor_digest(entry.name, entry.shape.dims(), state.values(entry)).hex()});
  }
  return infos;
}

std::string now() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

CheckpointSummary summarise(const Checkpoint& checkpoint) {
  CheckpointSummary summary;
  summary.model = checkpoint.model;
  summary.tensors = tensor_infos(checkpoint.state);
  if (checkpoint.optimizer) {
    summary.optimizer = OptimizerSummary{checkpoint.optimizer->kind, {}};
    for (const auto& [slot, state] : checkpoint.optimizer->slots) {
      summary.optimizer->slots.emplace_back(slot, tensor_infos(state));
    }
  }
  summary.progress = checkpoint.progress;
  summary.lineage = checkpoint.lineage;
  summary.metrics = checkpoint.metrics;
  summary.created = now();
  summary.writer = IMPART_VERSION;
  summary.digest = root_digest(summary.model, summary.tensors);
  return summary;
}

// Names become names of HDF5 objects, where a slash would make a group.
void require_plain(const std::string& name, const char* what) {
  if (name.empty() || name == "." || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos) {
    throw Error(fmt::format("a {} cannot have this name", what))
        .expected("some text without '/'")
        .got("'" + name + "'");
  }
}

void write_tensor(const h5::Handle& group, std::size_t order, const TensorInfo& info,
                  std::span<const float> values) {
  require_plain(info.name, "tensor");
  auto dataset = h5::write_array(group, info.name, info.shape, values);
  h5::write_text(dataset, "digest", info.digest);
  h5::write_text(dataset, "kind", kind_word(info.kind));
  h5::write_integer(dataset, "order", static_cast<std::int64_t>(order));
  dataset.close();
}

void write_model(const h5::Handle& file, const CheckpointSummary& summary, const StateDict& state) {
  const auto model = h5::create_group(file, "model");
  h5::write_text(model, "spec", summary.model.spec);
  h5::write_shape(model, "input_shape", summary.model.input_shape);
  h5::write_integer(model, "classes", summary.model.classes);
  const auto parameters = h5::create_group(file, group_name(StateKind::kParameter));
  const auto buffers = h5::create_group(file, group_name(StateKind::kBuffer));
  for (std::size_t i = 0; i < summary.tensors.size(); ++i) {
    const auto& info = summary.tensors[i];
    write_tensor(info.kind == StateKind::kParameter ? parameters : buffers, i, info, state.values(info.name));
  }
}

void write_optimizer(const h5::Handle& file, const OptimizerSummary& summary,
                     const OptimizerRecord& optimizer) {
  const auto group = h5::create_group(file, "optimizer");
  h5::write_text(group, "kind", summary.kind);
  for (std::size_t slot = 0; slot < summary.slots.size(); ++slot) {
    const auto& [name, tensors] = summary.slots[slot];
    require_plain(name, "slot of an optimizer");
    const auto slot_group = h5::create_group(group, name);
    h5::write_integer(slot_group, "order", static_cast<std::int64_t>(slot));
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      write_tensor(slot_group, i, tensors[i], optimizer.slots[slot].second.values(tensors[i].name));
    }
  }
}

void write_progress(const h5::Handle& file, const ProgressRecord& progress) {
  const auto group = h5::create_group(file, "progress");
  h5::write_text(group, "stage", progress.stage);
  h5::write_integer(group, "epoch", progress.epoch);
  h5::write_integer(group, "step", progress.step);
  h5::write_integer(group, "samples", progress.samples);
  h5::write_unsigned(group, "seed", progress.seed);
  const auto extra = h5::create_group(group, "extra");
  for (const auto& [name, value] : progress.extra) {
    require_plain(name, "number of the trainer");
    h5::write_real(extra, name, value);
  }
}

void write_lineage(const h5::Handle& file, const LineageRecord& lineage) {
  const auto group = h5::create_group(file, "lineage");
  h5::write_text(group, "stage", lineage.stage);
  h5::write_integer(group, "ranks", lineage.ranks);
  h5::write_text(group, "mesh", lineage.mesh);
  h5::write_text(group, "isa", lineage.isa);
  h5::write_text(group, "kernels", lineage.kernels);

  std::vector<std::string> digests, paths, roles, names, fingerprints;
  std::vector<double> weights;
  std::vector<std::int64_t> samples;
  for (const auto& parent : lineage.parents) {
    digests.push_back(parent.digest);
    paths.push_back(parent.path);
    roles.push_back(parent.role);
    weights.push_back(parent.weight);
  }
  for (const auto& data : lineage.data) {
    names.push_back(data.name);
    fingerprints.push_back(data.fingerprint);
    samples.push_back(data.samples);
  }
  h5::TableWriter()
      .column("digest", std::move(digests))
      .column("path", std::move(paths))
      .column("role", std::move(roles))
      .column("weight", std::move(weights))
      .write(group, "parents");
  h5::TableWriter()
      .column("name", std::move(names))
      .column("fingerprint", std::move(fingerprints))
      .column("samples", std::move(samples))
      .write(group, "data");
}

void write_metrics(const h5::Handle& file, const std::map<std::string, std::vector<MetricPoint>>& metrics) {
  const auto group = h5::create_group(file, "metrics");
  for (const auto& [name, points] : metrics) {
    require_plain(name, "metric");
    std::vector<std::int64_t> steps;
    std::vector<double> values;
    for (const auto& point : points) {
      steps.push_back(point.step);
      values.push_back(point.value);
    }
    h5::TableWriter().column("step", std::move(steps)).column("value", std::move(values)).write(group, name);
  }
}

// About as many bytes as the file will have: its tensors, and something for all else.
std::size_t expected_size(const Checkpoint& checkpoint) {
  auto floats = checkpoint.state.arena().size();
  if (checkpoint.optimizer) {
    for (const auto& [slot, state] : checkpoint.optimizer->slots) floats += state.arena().size();
  }
  return floats * sizeof(float) + (1 << 16);
}

h5::Handle build_file(const CheckpointSummary& summary, const Checkpoint& checkpoint) {
  auto file = h5::create_in_memory(expected_size(checkpoint));
  const auto root = h5::open_group(file, "/");
  h5::write_text(root, "format", kFormatName);
  h5::write_integer(root, "version", kFormatVersion);
  h5::write_text(root, "created", summary.created);
  h5::write_text(root, "impart", summary.writer);
  h5::write_text(root, "digest", summary.digest);
  h5::write_text(root, "file_digest", file_digest(summary));
  write_model(file, summary, checkpoint.state);
  if (summary.optimizer) write_optimizer(file, *summary.optimizer, *checkpoint.optimizer);
  if (summary.progress) write_progress(file, *summary.progress);
  write_lineage(file, summary.lineage);
  write_metrics(file, summary.metrics);
  return file;
}

}  // namespace

void write_checkpoint(const fs::path& path, Checkpoint& checkpoint) {
  try {
    const auto summary = summarise(checkpoint);
    AtomicFile target(path);
    {
      const auto file = build_file(summary, checkpoint);
      target.write(h5::image_of(file));
      target.flush();
    }
    if (const auto findings = verify_checkpoint(target.temporary()); !findings.empty()) {
      throw Error("the file does not read back as it was written")
          .at(findings.front().object)
          .got(findings.front().problem)
          .hint("the disk or its file system is failing");
    }
    target.commit();
    checkpoint.created = summary.created;
    checkpoint.digest = summary.digest;
  } catch (Error& error) {
    error.at(path.string());
    throw;
  }
}

}  // namespace impart::io

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>

#include "impart/core/digest.hpp"
#include "impart/core/error.hpp"
#include "impart/io/checkpoint.hpp"
#include "io/checkpoint_format.hpp"
#include "io/hdf5.hpp"

namespace impart::io {

namespace {

struct OpenFile {
  h5::Handle handle;
  std::uintmax_t size = 0;
};

struct OrderedTensor {
  std::int64_t order = 0;
  TensorInfo info;
};

// Runs `read` and puts the file's name in front of what it throws.
template <class Read>
auto with_path(const std::filesystem::path& path, const Read& read) {
  try {
    return read();
  } catch (Error& error) {
    error.at(path.string());
    throw;
  } catch (const std::filesystem::filesystem_error& error) {
    throw Error("cannot open the file").at(path.string()).got(error.code().message());
  }
}

OpenFile open(const std::filesystem::path& path) {
  OpenFile file{h5::open_file(path), std::filesystem::file_size(path)};
  const auto root = h5::open_group(file.handle, "/");
  const auto names = h5::attributes(root);
  if (std::find(names.begin(), names.end(), "format") == names.end() ||
      h5::read_text(root, "format") != kFormatName) {
    throw Error("this HDF5 file is no checkpoint").hint("its attribute `format` is missing or another");
  }
  if (const auto version = h5::read_integer(root, "version"); version != kFormatVersion) {
    throw Error("the checkpoint's format is not known")
        .expected(fmt::format("version {}", kFormatVersion))
        .got(fmt::format("version {}", version))
        .hint("read it with the version of impart that wrote it, or a newer one");
  }
  return file;
}

StateKind read_kind(const h5::Handle& dataset) {
  const auto word = h5::read_text(dataset, "kind");
  for (const auto kind : {StateKind::kParameter, StateKind::kBuffer}) {
    if (word == kind_word(kind)) return kind;
  }
  throw Error("unknown kind of tensor").at(h5::name_of(dataset)).expected("parameter or buffer").got(word);
}

void list_tensors(const OpenFile& file, const std::string& group_path, std::vector<OrderedTensor>& tensors) {
  const auto group = h5::open_group(file.handle, group_path);
  for (const auto& name : h5::children(group)) {
    const auto dataset = h5::open_dataset(group, name);
    if (!h5::has_type(dataset, H5T_IEEE_F32LE)) {
      throw Error("the tensor is of another type")
          .at(h5::name_of(dataset))
          .expected("float32, little-endian");
    }
    auto shape = h5::describe(dataset, file.size).shape;
    tensors.push_back({h5::read_integer(dataset, "order"),
                       {name, std::move(shape), read_kind(dataset), h5::read_text(dataset, "digest")}});
  }
}

std::vector<TensorInfo> in_order(std::vector<OrderedTensor> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.order < b.order; });
  std::vector<TensorInfo> infos;
  for (auto& [order, info] : tensors) {
    if (order != static_cast<std::int64_t>(infos.size())) {
      throw Error("a tensor before this one is missing")
          .at(info.name)
          .expected(fmt::format("number {}", infos.size()))
          .got(fmt::format("number {}", order));
    }
    infos.push_back(std::move(info));
  }
  return infos;
}

std::vector<TensorInfo> read_model_tensors(const OpenFile& file) {
  std::vector<OrderedTensor> tensors;
  for (const auto kind : {StateKind::kParameter, StateKind::kBuffer}) {
    const auto first = tensors.size();
    list_tensors(file, std::string("/") + group_name(kind), tensors);
    for (auto i = first; i < tensors.size(); ++i) {
      if (tensors[i].info.kind != kind) {
        throw Error("the tensor's kind is not its group's")
            .at(tensors[i].info.name)
            .expected(kind_word(kind));
      }
    }
  }
  return in_order(std::move(tensors));
}

int read_small(const h5::Handle& object, const std::string& name) {
  const auto value = h5::read_integer(object, name);
  if (value < 0 || value > std::numeric_limits<int>::max()) {
    throw Error("the number is out of range").at(h5::name_of(object) + "@" + name).got(std::to_string(value));
  }
  return static_cast<int>(value);
}

ModelRecord read_model(const OpenFile& file) {
  const auto group = h5::open_group(file.handle, "/model");
  return {h5::read_text(group, "spec"), h5::read_shape(group, "input_shape"), read_small(group, "classes")};
}

std::optional<OptimizerSummary> read_optimizer(const OpenFile& file) {
  if (!h5::exists(file.handle, "/optimizer")) return std::nullopt;
  const auto group = h5::open_group(file.handle, "/optimizer");
  const auto names = h5::children(group);
  OptimizerSummary optimizer{h5::read_text(group, "kind"), {}};
  optimizer.slots.resize(names.size());
  for (const auto& name : names) {
    const auto order = h5::read_integer(h5::open_group(group, name), "order");
    if (order < 0 || order >= static_cast<std::int64_t>(names.size()) ||
        !optimizer.slots[static_cast<std::size_t>(order)].first.empty()) {
      throw Error("the order of the optimizer's state is damaged").at("/optimizer/" + name);
    }
    std::vector<OrderedTensor> tensors;
    list_tensors(file, "/optimizer/" + name, tensors);
    optimizer.slots[static_cast<std::size_t>(order)] = {name, in_order(std::move(tensors))};
  }
  return optimizer;
}

std::optional<ProgressRecord> read_progress(const OpenFile& file) {
  if (!h5::exists(file.handle, "/progress")) return std::nullopt;
  const auto group = h5::open_group(file.handle, "/progress");
  ProgressRecord progress;
  progress.stage = h5::read_text(group, "stage");
  progress.epoch = h5::read_integer(group, "epoch");
  progress.step = h5::read_integer(group, "step");
  progress.samples = h5::read_integer(group, "samples");
  progress.seed = h5::read_unsigned(group, "seed");
  const auto extra = h5::open_group(group, "extra");
  for (const auto& name : h5::attributes(extra)) progress.extra[name] = h5::read_real(extra, name);
  return progress;
}

LineageRecord read_lineage(const OpenFile& file) {
  const auto group = h5::open_group(file.handle, "/lineage");
  LineageRecord lineage;
  lineage.stage = h5::read_text(group, "stage");
  lineage.ranks = read_small(group, "ranks");
  lineage.mesh = h5::read_text(group, "mesh");
  lineage.isa = h5::read_text(group, "isa");
  lineage.kernels = h5::read_text(group, "kernels");

  const h5::TableReader parents(group, "parents", file.size);
  const auto digests = parents.texts("digest");
  const auto paths = parents.texts("path");
  const auto roles = parents.texts("role");
  const auto weights = parents.reals("weight");
  for (std::size_t i = 0; i < parents.rows(); ++i) {
    lineage.parents.push_back({digests[i], paths[i], roles[i], weights[i]});
  }

  const h5::TableReader data(group, "data", file.size);
  const auto names = data.texts("name");
  const auto fingerprints = data.texts("fingerprint");
  const auto samples = data.integers("samples");
  for (std::size_t i = 0; i < data.rows(); ++i) {
    lineage.data.push_back({names[i], fingerprints[i], samples[i]});
  }
  return lineage;
}

std::map<std::string, std::vector<MetricPoint>> read_metrics(const OpenFile& file) {
  std::map<std::string, std::vector<MetricPoint>> metrics;
  const auto group = h5::open_group(file.handle, "/metrics");
  for (const auto& name : h5::children(group)) {
    const h5::TableReader table(group, name, file.size);
    const auto steps = table.integers("step");
    const auto values = table.reals("value");
    auto& points = metrics[name];
    for (std::size_t i = 0; i < table.rows(); ++i) points.push_back({steps[i], values[i]});
  }
  return metrics;
}

CheckpointSummary summarise(const OpenFile& file) {
  const auto root = h5::open_group(file.handle, "/");
  CheckpointSummary summary;
  summary.created = h5::read_text(root, "created");
  summary.writer = h5::read_text(root, "impart");
  summary.digest = h5::read_text(root, "digest");
  summary.model = read_model(file);
  summary.tensors = read_model_tensors(file);
  summary.optimizer = read_optimizer(file);
  summary.progress = read_progress(file);
  summary.lineage = read_lineage(file);
  summary.metrics = read_metrics(file);
  return summary;
}

// Memory for the values of a tensor, in the order in which `load` comes to them.
using Destination = std::function<std::span<float>(const TensorInfo&)>;

void load_tensor(const OpenFile& file, const std::string& group, const TensorInfo& tensor,
                 const Destination& destination, std::vector<Finding>& findings) {
  const auto path = group + "/" + tensor.name;
  const auto values = destination(tensor);
  try {
    if (!values.empty())
      h5::read_values(h5::open_dataset(file.handle, path), H5T_NATIVE_FLOAT, values.data());
  } catch (const Error& error) {
    findings.push_back({path, error.what()});
    return;
  }
  if (tensor_digest(tensor.name, tensor.shape.dims(), values).hex() != tensor.digest) {
    findings.push_back({path, "the values do not match their digest"});
  }
}

// The digests that cover no values.
void check_summary(const OpenFile& file, const CheckpointSummary& summary, std::vector<Finding>& findings) {
  if (root_digest(summary.model, summary.tensors) != summary.digest) {
    findings.push_back({"/", "the model does not match the root digest"});
  }
  if (h5::read_text(h5::open_group(file.handle, "/"), "file_digest") != file_digest(summary)) {
    findings.push_back({"/", "what goes with the model does not match the file digest"});
  }
}

// Reads the values of every tensor into what `destination` gives for it, and checks all digests.
std::vector<Finding> load(const OpenFile& file, const CheckpointSummary& summary,
                          const Destination& destination) {
  std::vector<Finding> findings;
  for (const auto& tensor : summary.tensors) {
    load_tensor(file, std::string("/") + group_name(tensor.kind), tensor, destination, findings);
  }
  if (summary.optimizer) {
    for (const auto& [slot, tensors] : summary.optimizer->slots) {
      for (const auto& tensor : tensors) {
        load_tensor(file, "/optimizer/" + slot, tensor, destination, findings);
      }
    }
  }
  check_summary(file, summary, findings);
  return findings;
}

[[noreturn]] void fail(const Finding& finding) {
  throw Error(finding.problem)
      .at(finding.object)
      .hint("the file is damaged: make it again, or continue from an older one");
}

StateLayoutPtr make_layout(const std::vector<TensorInfo>& tensors) {
  std::vector<StateEntry> entries;
  for (const auto& tensor : tensors) entries.push_back({tensor.name, tensor.shape, tensor.kind, 0});
  return std::make_shared<const StateLayout>(std::move(entries));
}

Checkpoint read(const OpenFile& file) {
  const auto summary = summarise(file);
  Checkpoint checkpoint;
  checkpoint.state = StateDict(make_layout(summary.tensors));
  std::vector<StateDict*> states{&checkpoint.state};
  if (summary.optimizer) {
    checkpoint.optimizer = OptimizerRecord{summary.optimizer->kind, {}};
    auto& slots = checkpoint.optimizer->slots;
    for (const auto& [slot, tensors] : summary.optimizer->slots)
      slots.emplace_back(slot, StateDict(make_layout(tensors)));
    for (auto& [slot, state] : slots) states.push_back(&state);
  }
  std::size_t state = 0;
  std::size_t entry = 0;
  const auto findings = load(file, summary, [&](const TensorInfo&) {
    while (entry == states[state]->layout().entries().size()) {
      ++state;
      entry = 0;
    }
    return states[state]->values(states[state]->layout().entries()[entry++]);
  });
  if (!findings.empty()) fail(findings.front());
  checkpoint.model = summary.model;
  checkpoint.progress = summary.progress;
  checkpoint.lineage = summary.lineage;
  checkpoint.metrics = summary.metrics;
  checkpoint.created = summary.created;
  checkpoint.digest = summary.digest;
  return checkpoint;
}

}  // namespace

Checkpoint read_checkpoint(const std::filesystem::path& path) {
  return with_path(path, [&] { return read(open(path)); });
}

CheckpointSummary read_summary(const std::filesystem::path& path) {
  return with_path(path, [&] { return summarise(open(path)); });
}

struct CheckpointReader::Impl {
  std::filesystem::path path;
  OpenFile file;
  CheckpointSummary summary;
  StateLayoutPtr layout;
};

CheckpointReader::CheckpointReader(const std::filesystem::path& path) {
  impl_ = with_path(path, [&] {
    auto impl = std::make_unique<Impl>(Impl{path, open(path), {}, {}});
    impl->summary = summarise(impl->file);
    std::vector<Finding> findings;
    check_summary(impl->file, impl->summary, findings);
    if (!findings.empty()) fail(findings.front());
    impl->layout = make_layout(impl->summary.tensors);
    return impl;
  });
}

CheckpointReader::CheckpointReader(CheckpointReader&& other) noexcept = default;
CheckpointReader& CheckpointReader::operator=(CheckpointReader&& other) noexcept = default;
CheckpointReader::~CheckpointReader() = default;

const std::filesystem::path& CheckpointReader::path() const noexcept { return impl_->path; }
const CheckpointSummary& CheckpointReader::summary() const noexcept { return impl_->summary; }
const StateLayoutPtr& CheckpointReader::layout() const noexcept { return impl_->layout; }

void CheckpointReader::read(std::string_view tensor, std::span<float> values) const {
  with_path(impl_->path, [&] {
    const auto& tensors = impl_->summary.tensors;
    const auto info = std::ranges::find(tensors, tensor, &TensorInfo::name);
    if (info == tensors.end()) throw Error("there is no such tensor").at(std::string(tensor));
    if (static_cast<std::size_t>(info->shape.elements()) != values.size()) {
      throw Error("the tensor has another number of values")
          .at(info->name)
          .expected(std::to_string(values.size()))
          .got(std::to_string(info->shape.elements()));
    }
    std::vector<Finding> findings;
    load_tensor(
        impl_->file, std::string("/") + group_name(info->kind), *info,
        [&](const TensorInfo&) { return values; }, findings);
    if (!findings.empty()) fail(findings.front());
  });
}

std::vector<Finding> verify_checkpoint(const std::filesystem::path& path) {
  return with_path(path, [&] {
    const auto file = open(path);
    AlignedBuffer<float> scratch;
    return load(file, summarise(file), [&](const TensorInfo& tensor) {
      const auto size = static_cast<std::size_t>(tensor.shape.elements());
      if (scratch.size() < size) scratch = AlignedBuffer<float>(size);
      return scratch.span().first(size);
    });
  });
}

}  // namespace impart::io

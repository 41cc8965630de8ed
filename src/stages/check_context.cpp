#include "impart/stages/check_context.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "impart/comm/shards.hpp"
#include "impart/core/counted.hpp"
#include "impart/core/error.hpp"
#include "impart/core/suggest.hpp"
#include "impart/data/partition.hpp"
#include "impart/io/checkpoint.hpp"
#include "impart/nn/network.hpp"
#include "impart/parallel/tensor_plan.hpp"
#include "impart/stages/ranks.hpp"
#include "impart/train/gradient_engine.hpp"
#include "stages/training_needs.hpp"

namespace impart::stages {

namespace {

template <class T, class Name>
std::string near_name(const std::string& wanted, const std::vector<T>& all, Name name) {
  std::vector<std::string_view> names;
  for (const auto& each : all) names.push_back(each.*name);
  const auto hint = suggestion(wanted, names);
  return hint.empty() ? "" : " (" + hint + ")";
}

// The first batch norm to be trained that has one value a channel, when a batch of `batch` samples is cut
// into shards of `shard`.
std::optional<std::string> lonely_batch_norm(const nn::ModelSpec& spec,
                                             std::span<const train::ParameterGroup> groups,
                                             std::int64_t shard, std::int64_t batch) {
  const auto shapes = nn::check_model(spec);
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const auto& layer = spec.layers[i];
    const auto& shape = shapes[i];
    const bool one_value =
        (shape.rank() == 1 || shape.elements() == shape[0]) && (nn::is_synced(layer) ? batch : shard) == 1;
    const bool frozen = train::group_of(groups, layer.name + ".weight").frozen &&
                        train::group_of(groups, layer.name + ".bias").frozen;
    if (layer.kind == "batch_norm" && one_value && !frozen) return layer.name;
  }
  return std::nullopt;
}

// Throws Error when the settings don't fit what the file says of itself.
DatasetOutline outline_of(const data::DatasetSettings& settings, const io::SampleInfo& info) {
  const auto limit = settings.limit[static_cast<std::size_t>(data::Part::kTrain)];
  DatasetOutline outline{data::check_samples(settings, info),
                         settings.classes,
                         info.samples,
                         limit > 0 ? limit * settings.classes : data::cut(settings.split[0], info.samples),
                         info.labels_per_sample,
                         {}};
  for (std::size_t part = 0; part < data::kPartNames.size(); ++part)
    outline.has_part[part] = settings.split[part] > 0;
  return outline;
}

}  // namespace

CheckContext::CheckContext(const Deck& deck, const CheckOptions& options, Problems& problems)
    : deck_(deck), options_(options), problems_(problems) {
  for (const auto& dataset : deck.datasets) datasets_.emplace(dataset.name, open(dataset));
}

void CheckContext::problem(const std::string& path, std::string_view text) {
  problems_.add(deck_.places, path, text);
}

bool CheckContext::will_run(const Stage& stage) const {
  const auto& only = options_.only;
  const auto& finished = options_.finished;
  return (only.empty() || std::ranges::find(only, stage.name()) != only.end()) &&
         std::ranges::find(finished, stage.name()) == finished.end();
}

const Stage& CheckContext::stage_at(const std::string& path) const {
  return **std::ranges::find(deck_.stages, path, [](const auto& stage) { return stage->path(); });
}

std::optional<DatasetOutline> CheckContext::open(const DatasetEntry& dataset) {
  const auto& settings = dataset.settings;
  if (settings.format == nullptr || settings.format->files().empty()) return std::nullopt;
  try {
    const auto source = settings.format->open();
    const auto& info = source->info();
    auto outline = outline_of(settings, info);
    data_bytes_ += info.bytes() + static_cast<std::size_t>(info.labels()) * sizeof(std::int32_t);
    return outline;
  } catch (const Error& e) {
    problem("dataset." + dataset.name, e.what());
    return std::nullopt;
  }
}

const nn::ModelSpec* CheckContext::model(const std::string& path, const std::string& name) {
  if (name.empty()) return nullptr;  // its absence is told already
  const auto* spec = deck_.find_model(name);
  if (spec == nullptr) {
    problem(path, fmt::format("there is no [model.{}]{}", name,
                              near_name(name, deck_.models, &nn::ModelSpec::name)));
    return nullptr;
  }
  return spec->layers.empty() ? nullptr : spec;
}

const DatasetOutline* CheckContext::dataset(const std::string& path, const std::string& name) {
  if (name.empty()) return nullptr;
  const auto found = datasets_.find(name);
  if (found == datasets_.end()) {
    problem(path, fmt::format("there is no [dataset.{}]{}", name,
                              near_name(name, deck_.datasets, &DatasetEntry::name)));
    return nullptr;
  }
  return found->second ? &*found->second : nullptr;
}

const ModelOutline* CheckContext::artifact(const std::string& path, const std::string& reference) {
  if (reference.empty()) return nullptr;
  if (const auto found = artifacts_.find(reference); found != artifacts_.end()) {
    return found->second ? &*found->second : nullptr;
  }
  if (is_checkpoint_file(reference)) {
    auto& outline = artifacts_[reference];
    try {
      const auto model = share::from_checkpoint(io::read_checkpoint(deck_.resolve(reference)));
      outline.emplace();
      for (const auto& member : model.members) outline->members.push_back(member.spec);
    } catch (const Error& e) {
      outline.reset();
      problem(path, e.what());
    }
    return outline ? &*outline : nullptr;
  }
  if (deck_.find_stage(reference) != nullptr) {
    problem(path, fmt::format("stage '{}' does not come before this one (move it up)", reference));
  } else {
    std::vector<std::string_view> names;
    for (const auto& stage : deck_.stages) names.push_back(stage->name());
    const auto hint = suggestion(reference, names);
    problem(path, fmt::format("there is no stage '{}'{}", reference, hint.empty() ? "" : " (" + hint + ")"));
  }
  return nullptr;
}

const nn::ModelSpec* CheckContext::network(const std::string& path, const std::string& reference) {
  const auto* outline = artifact(path, reference);
  if (outline == nullptr) return nullptr;
  if (outline->members.empty()) {
    problem(path, fmt::format("'{}' leaves no model", reference));
    return nullptr;
  }
  if (outline->is_ensemble()) {
    problem(path, fmt::format("expected one network, got the ensemble '{}'", reference));
    return nullptr;
  }
  return &outline->spec();
}

void CheckContext::match(const std::string& path, const nn::ModelSpec& spec, const DatasetOutline& dataset,
                         const std::string& dataset_name) {
  if (spec.input != dataset.shape) {
    problem(path,
            fmt::format("the model takes samples of {}, dataset '{}' has {} (see `resize`, `shape`, `input`)",
                        spec.input.str(), dataset_name, dataset.shape.str()));
  }
  if (spec.classes != dataset.classes && dataset.labels_per_sample != 0) {
    problem(path, fmt::format("the model has {} classes, dataset '{}' has {}{}", spec.classes, dataset_name,
                              dataset.classes,
                              dataset.labels_per_sample > 1
                                  ? " (its `vocabulary` can be that of the text the model is trained on)"
                                  : ""));
  }
  if (dataset.labels_per_sample == 0) {
    problem(path, fmt::format("dataset '{}' has no labels", dataset_name));
    return;
  }
  const auto rows = nn::check_model(spec).back().elements() / spec.classes;
  if (rows != dataset.labels_per_sample) {
    problem(path, fmt::format("the model gives {} predictions a sample, dataset '{}' has {} labels", rows,
                              dataset_name, dataset.labels_per_sample));
  }
}

void CheckContext::need_part(const std::string& path, const std::string& dataset_name,
                             const DatasetOutline& dataset, data::Part part) {
  if (part == data::Part::kAll || dataset.has_part[static_cast<std::size_t>(part)]) return;
  problem(path, fmt::format("dataset '{}' has no {} part (give it one in `split`)", dataset_name,
                            data::part_name(part)));
}

void CheckContext::measured(const std::string& path, const std::string& dataset_name,
                            const nn::ModelSpec& spec) {
  if (const auto* data = dataset(path, dataset_name)) {
    match(path, spec, *data, dataset_name);
    need_part(path, dataset_name, *data, data::Part::kValidation);
  }
}

// The mesh of the stage at `path`, when its ranks, the shards and the model allow it.
std::optional<comm::MeshShape> CheckContext::check_mesh(const std::string& path,
                                                        const train::Training& settings,
                                                        const nn::ModelSpec& spec, Trainees trainees) {
  if (trainees != Trainees::kRanks) return comm::MeshShape{.data = 1};
  const auto& stage = stage_at(path);
  const int shards = deck_.run.shards;
  const int wanted = wanted_ranks(stage, options_.ranks, shards);
  if (wanted > options_.ranks) return std::nullopt;  // told where the stage says it
  try {
    const auto mesh = comm::fit_mesh(settings.options.mesh,
                                     wanted > 0 ? wanted : comm::largest_rank_count(shards, options_.ranks));
    const auto why = why_not_ranks(mesh.data, shards,
                                   settings.options.mesh.data > 0 ? "mesh.data"
                                   : stage.common().ranks > 0     ? "`ranks`"
                                                                  : "`mpirun -n`");
    if (why.empty()) return mesh;
    const bool told = mesh.tensor == 1 && (stage.common().ranks >= 1 || !splits_tensors(deck_));
    if (!told) problem(path + ".mesh", "ranks of the data axis: " + why);
  } catch (const Error& e) {
    problem(path + ".mesh", e.what());
    check_split(path, settings.options.mesh, spec);
  }
  return std::nullopt;
}

// Whether the tensor axis divides the model's channels, which training_needs tells where the ranks are right.
void CheckContext::check_split(const std::string& path, const comm::MeshShape& mesh,
                               const nn::ModelSpec& spec) {
  try {
    parallel::plan_tensors(spec, {0, mesh.tensor});
  } catch (const Error& e) {
    problem(path + ".mesh", e.what());
  }
}

// Batch norms with `sync` against the ranks that share the batch, and its shards.
void CheckContext::check_sync(const std::string& path, const train::Training& settings,
                              const nn::ModelSpec& spec, const comm::MeshShape& mesh, Trainees trainees) {
  const auto trainable = [&](const std::string& name) {
    return !train::group_of(settings.options.groups, name).frozen;
  };
  const auto layer = nn::synced_layer(spec, trainable);
  if (!layer || settings.options.local_steps > 1) return;  // which is told as a conflict
  if (mesh.data == 1 && options_.ranks_known && trainees == Trainees::kRanks) {
    problem(path, fmt::format("layer '{}': batch norm with `sync` has nothing to synchronise on one rank "
                              "(expected at least 2 that share the batch; drop `sync`, and for statistics of "
                              "the whole batch give run.shards = 1)",
                              *layer));
  }
  try {
    train::check_synced(spec, {{.shards = deck_.run.shards}, deck_.run.shards, 0, trainable});
  } catch (const Error& e) {
    problem(path, e.what());
  }
}

// A batch, given by the setting `key`, that is cut into shards for `spec`.
void CheckContext::check_shards(const std::string& path, const char* key, std::int64_t batch_size, int shards,
                                const nn::ModelSpec& spec, std::span<const train::ParameterGroup> groups) {
  if (batch_size % shards != 0) {
    problem(fmt::format("{}.{}", path, key),
            fmt::format("expected a multiple of the {} shards (run.shards), got {}", shards, batch_size));
  }
  const auto shard = std::max<std::int64_t>(1, batch_size / shards);
  if (const auto layer = lonely_batch_norm(spec, groups, shard, batch_size)) {
    problem(fmt::format("{}.{}", path, key),
            fmt::format("a shard of one sample gives layer '{}' one value a channel, which has no statistics "
                        "(raise {}, lower run.shards, or freeze the layer)",
                        *layer, key));
  }
}

void CheckContext::few_samples(const std::string& path, std::int64_t samples, const nn::ModelSpec& spec,
                               std::span<const train::ParameterGroup> groups) {
  if (const auto layer = lonely_batch_norm(spec, groups, samples, samples)) {
    problem(path, fmt::format("training on {} gives layer '{}' one value a channel, which has no statistics "
                              "(expected at least 2 samples, or freeze the layer)",
                              counted(samples, "sample"), *layer));
  }
}

std::size_t CheckContext::memory_limit() const {
  if (options_.memory_per_rank != 0) return options_.memory_per_rank;
  return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

void CheckContext::recalibration(const std::string& path, const nn::ModelSpec& spec,
                                 std::int64_t batch_size) {
  const int shards = deck_.run.shards;
  check_shards(path, "batch_size", batch_size, shards, spec, {});
  const train::EngineOptions engine{{.shards = shards, .threads = std::max(1, options_.threads)}, batch_size};
  try {
    train::check_synced(spec, engine);
  } catch (const Error& e) {
    problem(path, e.what());
  }
  if (batch_size % shards != 0) return;
  if (!will_run(stage_at(path))) return;
  const auto ranks = comm::largest_rank_count(shards, options_.ranks);
  const auto memory = data_bytes_ + nn::state_layout(spec)->arena_size() * sizeof(float) +
                      train::engine_memory(spec, engine, ranks).total();
  if (memory <= memory_limit()) return;
  problem(path, fmt::format("a recalibration needs about {} of memory per rank, {} are there: a smaller "
                            "batch_size, fewer threads or more ranks need less",
                            megabytes(static_cast<double>(memory)),
                            megabytes(static_cast<double>(memory_limit()))));
}

void CheckContext::check_needs(const std::string& path, const train::Training& settings,
                               const nn::ModelSpec& spec, Trainees trainees) {
  if (!will_run(stage_at(path))) return;
  const auto mesh = check_mesh(path, settings, spec, trainees);
  if (!mesh) return;
  if (trainees != Trainees::kClients) check_sync(path, settings, spec, *mesh, trainees);
  const auto limit = memory_limit();
  TrainingNeeds needs;
  try {
    needs = training_needs(settings, spec, *mesh, trainees == Trainees::kClients ? 1 : deck_.run.shards,
                           options_.threads, data_bytes_, limit);
  } catch (const Error& e) {
    problem(path + ".mesh", e.what());
    return;
  }
  const int all =
      trainees == Trainees::kClients ? options_.ranks_of_node : mesh->data * mesh->pipeline * mesh->tensor;
  const int sharing = options_.memory_per_rank != 0 ? 1 : std::min(all, options_.ranks_of_node);
  if (needs.memory_of_node(sharing) > limit) {
    const auto text = [](std::size_t bytes) { return megabytes(static_cast<double>(bytes)); };
    problem(path,
            fmt::format("needs about {} of memory per rank, {}{} are there: {} ({})", text(needs.memory()),
                        sharing > 1 ? fmt::format("{} for {} ranks of a node, ",
                                                  text(needs.memory_of_node(sharing)), sharing)
                                    : "",
                        text(limit), needs.kinds(),
                        needs.activations == 0
                            ? "that is without activations: only a smaller model, or mesh.tensor, needs less"
                            : "a smaller batch_size, fewer threads or more ranks need less"));
  }
  if (trainees != Trainees::kClients) notes_.push_back(fmt::format("{}: {}", path, needs.describe()));
}

void CheckContext::init(const std::string& path, const std::string& reference, const nn::ModelSpec& spec) {
  const auto* source = network(path, reference);
  if (source == nullptr) return;
  if (const auto difference = nn::state_layout(spec)->difference(*nn::state_layout(*source))) {
    problem(path, fmt::format(
                      "'{}' is of another architecture than model '{}': {} (a transfer can replace the head)",
                      reference, spec.name, *difference));
  }
}

// That the samples are such as the training asks for.
void CheckContext::check_samples(const std::string& path, const train::Training& training,
                                 const DatasetOutline& data) {
  const auto& [index, of] = training.part;
  if (data.has_part[0] && data.train_samples < of) {
    problem(path + ".train_part",
            fmt::format("expected at most one slice a training sample, {}, got {}", data.train_samples, of));
  }
  const auto& options = training.options;
  try {
    options.sampler->check(data.labels_per_sample);
  } catch (const Error& e) {
    problem(path + ".sampler", e.what());
  }
  if (!options.augment.empty() && data.labels_per_sample != 1) {
    problem(path + ".augment", "changes samples with one label each, not sequences");
    return;
  }
  for (std::size_t i = 0; i < options.augment.size(); ++i) {
    try {
      options.augment[i]->check(data.shape);
    } catch (const Error& e) {
      problem(fmt::format("{}.augment[{}]", path, i + 1), e.what());
    }
  }
}

// That an epoch is one update is possible, and seldom what is meant.
void CheckContext::check_updates(const std::string& path, const train::Training& settings,
                                 std::int64_t samples) {
  const auto update = settings.options.batch_size * settings.options.accumulate;
  if (samples == 0 || update < samples) return;
  notes_.push_back(fmt::format("{}.{}: an update takes {}, and there are {} to train on: one update an epoch",
                               path, settings.options.batch_size < samples ? "accumulate" : "batch_size",
                               counted(update, "sample"), samples));
}

// What the methods of the training say of each other, of the model and of the data.
void CheckContext::check_methods(const std::string& path, const train::Training& training,
                                 const nn::ModelSpec& spec, const DatasetOutline* data) {
  const auto& options = training.options;
  for (const auto& [key, text] : train::unused_patterns(options.groups, *nn::state_layout(spec)))
    problem(fmt::format("{}.{}", path, key), text);
  auto all = train::capabilities_of(options);
  all.push_back(train::capabilities_of(*training.objective));
  all.push_back(train::capabilities_of(spec, options.groups));
  if (data != nullptr) {
    for (auto& need : train::validation_needs(options)) all.push_back(std::move(need));
    if (data->has_part[static_cast<std::size_t>(data::Part::kValidation)])
      all.push_back({.key = "dataset", .uses = {{train::Feature::kValidation, {"dataset"}}}});
  }
  for (const auto& [key, text] : train::conflicts(all)) problem(fmt::format("{}.{}", path, key), text);
  const auto* entropy = training.objective->as_cross_entropy();
  const auto weights = entropy == nullptr ? 0 : entropy->class_weights.size();
  if (weights != 0 && weights != static_cast<std::size_t>(spec.classes)) {
    problem(path + ".objective",
            fmt::format("expected {} class_weights, one for each class, got {}", spec.classes, weights));
  }
  if (!options.solver) return;
  if (const auto reason = options.solver->why_not(spec); !reason.empty()) {
    problem(path + ".optimizer",
            fmt::format("{} cannot solve for model '{}': {}", options.solver->kind(), spec.name, reason));
  }
}

void CheckContext::training(const std::string& path, const train::Training& training,
                            const nn::ModelSpec& spec, Trainees trainees) {
  const auto& options = training.options;
  const auto* data = dataset(path + ".dataset", training.dataset);
  if (data != nullptr) {
    match(path + ".dataset", spec, *data, training.dataset);
    need_part(path + ".dataset", training.dataset, *data, data::Part::kTrain);
    if (trainees == Trainees::kRanks && !options.solver)
      check_updates(path, training, data->train_samples / training.part.of);
    check_samples(path, training, *data);
  }
  check_methods(path, training, spec, data);
  check_shards(path, trainees == Trainees::kInTurn ? "local_batch_size" : "batch_size", options.batch_size,
               trainees == Trainees::kClients ? 1 : deck_.run.shards, spec, options.groups);
  check_needs(path, training, spec, trainees);
  const auto arena = nn::state_layout(spec)->arena_size() * sizeof(float);
  disk_bytes_ += 2 * arena * (1 + saved_slots(options));
}

void CheckContext::leave(const std::string& stage, std::optional<ModelOutline> outline) {
  for (const auto& spec : outline ? outline->members : std::vector<nn::ModelSpec>()) {
    disk_bytes_ +=
        2 * nn::state_layout(spec)->arena_size() * sizeof(float);  // the new file beside an old one
  }
  artifacts_.emplace(stage, std::move(outline));
}

}  // namespace impart::stages

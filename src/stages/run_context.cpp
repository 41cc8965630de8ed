#include "impart/stages/run_context.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "impart/core/error.hpp"
#include "impart/data/partition.hpp"
#include "impart/nn/network.hpp"
#include "impart/share/transfer/transfer.hpp"
#include "impart/train/cost.hpp"

namespace impart::stages {

RunContext::RunContext(const comm::Comm& comm, const Deck& deck, const RunOptions& options,
                       EventSink on_event)
    : comm_(&comm), deck_(deck), options_(options), on_event_(std::move(on_event)) {}

void RunContext::use_ranks(const comm::Comm& comm, ProgressMode progress) {
  comm_ = &comm;
  options_.progress = progress;
}

const data::DataParts& RunContext::data(const std::string& name) {
  const auto found = data_.find(name);
  if (found != data_.end()) return found->second;
  const auto& settings = deck_.find_dataset(name)->settings;
  auto parts = data::read_parts(*comm_, "dataset." + name, settings);
  for (std::size_t part = 0; part < data::kPartNames.size(); ++part) {
    if (settings.split[part] == 0 || parts.parts[part] != nullptr) continue;
    throw Error("the part has no samples")
        .at(fmt::format("dataset.{}: split.{}", name, data::kPartNames[part]))
        .hint(settings.format->traits().text ? "a larger part, a longer text, or a smaller `context`"
                                             : "a larger part, or more samples")
        .collective();
  }
  return data_.emplace(name, std::move(parts)).first->second;
}

data::DatasetPtr RunContext::training_data(const train::Training& settings) {
  const auto& whole = data(settings.dataset).part(data::Part::kTrain);
  if (settings.part.of == 1) return whole;
  data::DatasetPtr slice;
  comm::agree(*comm_, "train_part", [&] {
    auto parts = data::partition_iid(*whole, settings.part.of, deck_.run.seed);
    slice = data::subset(whole, std::move(parts.at(static_cast<std::size_t>(settings.part.index))));
    if (slice->size() == 0)
      throw Error("a slice of the training part has no samples").at("dataset." + settings.dataset);
  });
  return slice;
}

StateDict RunContext::initial_state(const nn::ModelSpec& spec, const std::string& init,
                                    const train::Training& settings) {
  const auto seed = settings.options.seed;
  if (init.empty()) return nn::initial_state(spec, seed);
  require_same_characters(*this, init, settings.dataset);
  const auto& from = model(init);
  StateDict state;
  comm::agree(*comm_, init,
              [&] { state = share::transfer(from.state, spec, share::Head::kKeep, seed).state; });
  return state;
}

const share::Model& RunContext::model(const std::string& reference) {
  auto found = models_.find(reference);
  if (found == models_.end()) {
    const auto* artifact = find(reference);
    const auto path = artifact != nullptr ? artifact->path : deck_.resolve(reference);
    std::string digest;
    found = models_.emplace(reference, read_model(*comm_, path, digest)).first;
    artifacts_.insert_or_assign(reference, Artifact{path, digest});
  }
  return found->second;
}

train::Execution RunContext::execution() const {
  return {.shards = deck_.run.shards,
          .threads = options_.threads,
          .overlap = deck_.run.overlap,
          .reproducible = deck_.run.reproducible,
          .drift_check = deck_.run.drift_check,
          .progress = options_.progress};
}

train::TrainerOptions RunContext::trainer_options(const std::string& stage,
                                                  const train::Training& training) const {
  auto options = training.options;
  static_cast<train::Execution&>(options) = execution();
  options.stage = stage;
  return options;
}

double RunContext::seconds_per_sample(const nn::ModelSpec& spec, std::int64_t batch) {
  const auto [found, unknown] = sample_seconds_.try_emplace({nn::to_json(spec), batch}, 0.0);
  if (unknown) found->second = train::seconds_per_sample(spec, batch);
  return found->second;
}

std::function<void(const train::TrainEvent&)> RunContext::event_sink(const std::string& stage) const {
  return [this, stage](const train::TrainEvent& event) { on_event_(stage, event); };
}

std::filesystem::path RunContext::state_directory(const std::string& stage) const {
  return deck_.run_directory() / stage / "state";
}

void RunContext::put(const std::string& stage, Artifact artifact) {
  artifacts_.insert_or_assign(stage, std::move(artifact));
}

void RunContext::put(const std::string& stage, Artifact artifact, std::optional<share::Model> model) {
  put(stage, std::move(artifact));
  models_.erase(stage);
  if (model) models_.emplace(stage, std::move(*model));
}

const Artifact* RunContext::find(const std::string& reference) const {
  const auto found = artifacts_.find(reference);
  return found == artifacts_.end() ? nullptr : &found->second;
}

void require_same_characters(RunContext& context, const std::string& reference, const std::string& dataset) {
  const auto& encoding = context.model(reference).members.front().encoding;
  if (!encoding || encoding->vocabulary == context.data(dataset).encoding().vocabulary) return;
  throw Error("the model was trained on a text with other characters")
      .at(reference)
      .hint("give both texts one `vocabulary`")
      .collective();
}

namespace {

// A run that was stopped has left no model yet.
StageResult result_of(train::TrainResult trained, const std::string& stage, const train::Training& settings,
                      share::Model model) {
  StageResult result;
  result.stopped = trained.end == train::TrainEnd::kStopped;
  if (trained.end == train::TrainEnd::kEarly) {
    result.note = fmt::format("early, epoch {} of {}", trained.epochs, settings.options.epochs);
  }
  result.metrics = std::move(trained.metrics);
  result.history = std::move(trained.history);
  const auto kept_epoch = trained.steps > 0 ? trained.epochs * trained.kept_step / trained.steps : 0;
  result.progress =
      io::ProgressRecord{stage, kept_epoch, trained.kept_step, trained.samples, settings.options.seed, {}};
  result.seconds = trained.seconds;
  result.overlap = std::move(trained.overlap);
  if (!result.stopped) result.model = std::move(model);
  return result;
}

}  // namespace

StageResult train_model(RunContext& context, const std::string& stage, const train::Training& settings,
                        const nn::ModelSpec& spec, const nn::Objective& objective,
                        const data::DatasetPtr& data, StateDict state) {
  const auto& parts = context.data(settings.dataset);
  const train::TrainTask task{.spec = spec,
                              .objective = objective,
                              .train = data,
                              .validation = parts.part(data::Part::kValidation),
                              .on_event = context.event_sink(stage),
                              .stop = context.options().stop,
                              .state_directory = context.state_directory(stage),
                              .state_key = context.state_key()};
  auto trained = train::train(context.comm(), context.trainer_options(stage, settings), task, state);
  return result_of(std::move(trained), stage, settings,
                   share::single(spec, std::move(state), parts.encoding()));
}

StageResult federate_model(RunContext& context, const std::string& stage, const train::Training& settings,
                           const nn::ModelSpec& spec, share::FederateOptions options,
                           const share::FederatedAlgorithm* algorithm, std::vector<data::DatasetPtr> clients,
                           StateDict state) {
  options.stage = stage;
  options.shards = context.deck().run.shards;
  options.threads = context.options().threads;
  options.seed = settings.options.seed;
  options.local = context.trainer_options(stage, settings);
  options.progress = context.options().progress;
  const auto& parts = context.data(settings.dataset);
  const share::FederateTask task{.spec = spec,
                                 .objective = *settings.objective,
                                 .clients = std::move(clients),
                                 .validation = parts.part(data::Part::kValidation),
                                 .on_event = context.event_sink(stage),
                                 .stop = context.options().stop,
                                 .state_directory = context.state_directory(stage),
                                 .state_key = context.state_key()};
  auto trained = algorithm == nullptr ? share::cyclic_transfer(context.comm(), options, task, state)
                                      : share::federate(context.comm(), *algorithm, options, task, state);
  return result_of(std::move(trained), stage, settings,
                   share::single(spec, std::move(state), parts.encoding()));
}

std::vector<data::DatasetPtr> cut(const comm::Comm& comm, const data::DatasetPtr& data,
                                  const std::function<std::vector<data::Indices>()>& deal) {
  std::vector<data::DatasetPtr> parts;
  comm::agree(comm, "partition", [&] {
    for (auto& part : deal()) parts.push_back(data::subset(data, std::move(part)));
  });
  return parts;
}

int least_training_ranks(const train::Training& settings, const nn::ModelSpec& spec) {
  const auto synced = nn::synced_layer(
      spec, [&](const std::string& name) { return !train::group_of(settings.options.groups, name).frozen; });
  return synced ? 2 : 1;
}

double training_cost(RunContext& context, const train::Training& settings, const nn::ModelSpec& spec) {
  const auto samples = context.data(settings.dataset).part(data::Part::kTrain)->size() / settings.part.of;
  const auto shard = std::max<std::int64_t>(2, settings.options.batch_size / context.deck().run.shards);
  return static_cast<double>(samples * settings.options.epochs) * context.seconds_per_sample(spec, shard);
}

std::map<std::string, double> validation_metrics(RunContext& context, const std::string& dataset,
                                                 const share::Model& model) {
  std::map<std::string, double> metrics;
  if (dataset.empty()) return metrics;
  const auto& validation = context.data(dataset).part(data::Part::kValidation);
  for (const auto& [name, value] :
       share::evaluate(context.comm(), model, validation, context.options().threads)) {
    metrics["validation." + name] = value;
  }
  return metrics;
}

}  // namespace impart::stages

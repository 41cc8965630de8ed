#include "stages/settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "impart/share/combine.hpp"
#include "stages/augment_settings.hpp"
#include "stages/optimizer_settings.hpp"

namespace impart::stages {

namespace {

void read_mesh(TableReader table, comm::MeshShape& mesh) {
  table.read("data", mesh.data, between(0, 1 << 20));
  table.read("pipeline", mesh.pipeline, between(1, 1 << 20));
  table.read("tensor", mesh.tensor, between(1, 1 << 20));
  if (mesh.pipeline != 1) {
    table.problem("pipeline", fmt::format("only 1 is possible yet, got {}", mesh.pipeline));
    mesh.pipeline = 1;
  }
  table.finish();
}

constexpr Range kEpochs{.low = 1, .high = 1'000'000};
constexpr Range kBatch{.low = 1, .high = 1 << 24};

/// What a stage calls the epochs and the batch of its training.
struct StepKeys {
  std::string_view epochs = "epochs";
  std::string_view batch = "batch_size";
};

// What concerns the local steps of one model, wherever they run.
void read_steps(TableReader& table, TrainingSettings& training, const StepKeys& keys) {
  table.require("dataset", training.dataset);
  table.read(keys.epochs, training.epochs, kEpochs);
  table.read(keys.batch, training.batch_size, kBatch);
  read_optimizer(table, training);
  read_objective(table, training.objective);
  table.read("accumulate", training.accumulate, between(1, 1 << 20));
  training.augment = read_augment(table);
  if (training.solver) training.solver->objective = training.objective.kind;
  check_solver(table, training);
}

void read_train_part(TableReader part, TrainPart& settings) {
  part.read("of", settings.of, between(1, 1 << 20));
  part.read("index", settings.index, at_least(0));
  if (settings.index >= settings.of) {
    part.problem("index", fmt::format("expected 0 to {}, got {}", settings.of - 1, settings.index));
    settings.index = 0;
  }
  part.finish();
}

void read_groups(TableReader& table, TrainingSettings& training) {
  for (auto& group : table.tables("groups")) {
    train::ParameterGroup made;
    group.require("pattern", made.pattern);
    group.read("learning_rate_scale", made.learning_rate_scale, at_least(0));
    group.finish();
    training.groups.push_back(std::move(made));
  }
  std::vector<std::string> frozen;
  table.read("freeze", frozen);
  for (const auto& pattern : frozen) training.groups.push_back({.pattern = pattern, .frozen = true});
}

TrainingSettings read_training(TableReader& table, const Deck& deck, nn::ObjectiveKind objective,
                               const StepKeys& keys = {}) {
  TrainingSettings training;
  training.objective.kind = objective;
  read_steps(table, training, keys);
  read_train_part(table.table("train_part"), training.train_part);
  table.read("local_steps", training.local_steps, between(1, 1 << 20));
  if (training.local_steps > 1 && training.accumulate > 1)
    table.problem("local_steps", "every local step is an update, so that there is nothing to `accumulate`");
  read_schedule(table.table("schedule"), training.schedule);
  read_average(table.table("average"), training);
  table.choose("keep", training.keep, {{"last", train::Keep::kLast}, {"best", train::Keep::kBest}});
  table.choose("monitor", training.monitor,
               {{"accuracy", std::string("accuracy")},
                {"f1_macro", std::string("f1_macro")},
                {"loss", std::string("loss")}});
  auto stopping = table.table("early_stopping");
  stopping.read("patience", training.patience, at_least(0));
  stopping.read("min_delta", training.min_delta, at_least(0));
  stopping.finish();
  read_groups(table, training);
  training.seed = deck.run.seed;
  table.read("seed", training.seed);
  read_mesh(table.table("mesh"), training.mesh);
  return training;
}

constexpr std::array<std::string_view, 3> kCyclicKeys = {"parts", "local_epochs", "local_batch_size"};

bool is_cyclic(TableReader& table) {
  const std::vector<std::string_view> words = {"together", "cyclic"};
  if (!table.has("order")) return table.choose_word("order", words, 0) == 1;
  if (const auto word = table.find_word("order", words)) return *word == 1;
  // A misspelt one is told already: what else is there says which was meant.
  return std::ranges::any_of(kCyclicKeys, [&](auto key) { return table.has(key); });
}

void read_cyclic(TableReader& table, const Deck& deck, CyclicSettings& cyclic) {
  cyclic.parts = deck.run.shards;
  table.read("parts", cyclic.parts, between(1, 1 << 20));
  table.read("epochs", cyclic.rounds, kEpochs);
  if (!table.has("batch_size")) return;
  std::int64_t global = 0;
  table.read("batch_size", global, kBatch);
  table.problem("batch_size",
                "is a batch of all ranks together, and with order = \"cyclic\" one trains at a time: give "
                "`local_batch_size`");
}

// What needs all ranks at once, or looks at epochs of all the data.
void check_cyclic(TableReader& stage, const TrainingSettings& training) {
  const auto refuse = [&](std::string_view key, std::string_view why) {
    stage.problem(key, fmt::format("{}, and order = \"cyclic\" visits one part after another", why));
  };
  if (training.local_steps > 1) refuse("local_steps", "averages shards that train at the same time");
  if (training.solver) refuse("optimizer", "a solver needs all the data at once");
  if (training.average.kind != train::AverageKind::kNone)
    refuse("average", "is of weights along one training");
  const auto* epochs = "compares the epochs of one training";
  if (training.keep == train::Keep::kBest) refuse("keep", epochs);
  if (training.patience > 0) refuse("early_stopping", epochs);
  if (training.schedule.kind == train::ScheduleKind::kPlateau) refuse("schedule", epochs);
  if (training.mesh.tensor > 1) refuse("mesh", "ranks that share tensors work at the same time");
}

// Name of the model that the stage of that name makes; empty when the deck does not say it.
std::string model_of(std::span<const StageSettings> earlier, const std::string& name) {
  const auto found = std::ranges::find(earlier, name, &StageSettings::name);
  if (found == earlier.end()) return "";
  const auto before = earlier.first(static_cast<std::size_t>(found - earlier.begin()));
  const auto* any = &found->settings;
  if (const auto* train = std::get_if<TrainSettings>(any)) return train->model;
  if (const auto* distil = std::get_if<DistilSettings>(any)) return distil->model;
  if (const auto* federate = std::get_if<FederateSettings>(any)) return federate->model;
  if (const auto* merge = std::get_if<MergeSettings>(any); merge != nullptr && !merge->inputs.empty()) {
    return model_of(before, merge->inputs.front());
  }
  const auto* transfer = std::get_if<TransferSettings>(any);
  if (transfer == nullptr) return "";
  return transfer->model.empty() ? model_of(before, transfer->from) : transfer->model;
}

// Weights of several inputs: one for each, not all zero.
void read_weights(TableReader& table, std::vector<double>& weights, std::size_t inputs, Range range) {
  table.read("weights", weights, range);
  if (weights.empty()) return;
  if (weights.size() != inputs) {
    table.problem("weights",
                  fmt::format("expected {} weights, one for each input, got {}", inputs, weights.size()));
  } else if (std::ranges::all_of(weights, [](double w) { return w == 0; })) {
    table.problem("weights", "expected at least one above 0");
  }
}

void read_inputs(TableReader& table, std::string_view key, std::vector<std::string>& inputs,
                 std::size_t least) {
  if (table.require(key, inputs) && inputs.size() < least) {
    table.problem(key, fmt::format("expected at least {}, got {}", least, inputs.size()));
  }
}

}  // namespace

AnySettings read_train(TableReader& table, const Deck& deck) {
  TrainSettings settings;
  table.require("model", settings.model);
  table.read("init", settings.init);
  const bool cyclic = is_cyclic(table);
  const auto objective = deck.objective_of(settings.model);
  if (cyclic) {
    read_cyclic(table, deck, settings.cyclic.emplace());
    settings.training =
        read_training(table, deck, objective, {.epochs = "local_epochs", .batch = "local_batch_size"});
    check_cyclic(table, settings.training);
  } else {
    settings.training = read_training(table, deck, objective);
    for (const auto key : kCyclicKeys) table.refuse(key, "only with order = \"cyclic\"");
  }
  return settings;
}

AnySettings read_transfer(TableReader& table, const Deck& deck) {
  TransferSettings settings;
  table.require("from", settings.from);
  table.read("model", settings.model);
  table.choose(
      "head", settings.head,
      {{"auto", share::Head::kAuto}, {"replace", share::Head::kReplace}, {"keep", share::Head::kKeep}});
  const auto model = settings.model.empty() ? model_of(deck.stages, settings.from) : settings.model;
  settings.training = read_training(table, deck, deck.objective_of(model));
  return settings;
}

AnySettings read_merge(TableReader& table, const Deck& deck) {
  MergeSettings settings;
  read_inputs(table, "inputs", settings.inputs, 2);
  const auto names = share::combiner_names();
  settings.method = names[table.choose_word("method", names, 0)];
  read_weights(table, settings.weights, settings.inputs.size(), at_least(0));
  if (settings.method == "weighted" && settings.weights.empty()) table.missing("weights");
  if (settings.method == "average" && !settings.weights.empty()) {
    table.problem("weights", "method \"average\" takes none (method = \"weighted\" does)");
  }
  table.read("dataset", settings.dataset);
  table.read("recalibrate", settings.recalibrate);
  if (!settings.recalibrate.empty()) {
    settings.batch_size = std::int64_t{32} * deck.run.shards;  // statistics of 32 samples and more
    table.read("batch_size", settings.batch_size, kBatch);
  }
  return settings;
}

AnySettings read_ensemble(TableReader& table, const Deck&) {
  EnsembleSettings settings;
  read_inputs(table, "members", settings.members, 2);
  read_weights(table, settings.weights, settings.members.size(), above(0));
  table.choose("voting", settings.voting, {{"soft", share::Voting::kSoft}, {"hard", share::Voting::kHard}});
  table.read("dataset", settings.dataset);
  auto sorted = settings.members;
  std::ranges::sort(sorted);
  if (std::ranges::adjacent_find(sorted) != sorted.end()) table.problem("members", "names one member twice");
  return settings;
}

AnySettings read_distil(TableReader& table, const Deck& deck) {
  DistilSettings settings;
  read_inputs(table, "teachers", settings.teachers, 1);
  table.require("model", settings.model);
  table.read("kd_weight", settings.kd_weight, between(0, 1));
  table.read("temperature", settings.temperature, above(0));
  settings.training = read_training(table, deck, nn::ObjectiveKind::kCrossEntropy);
  const auto& objective = settings.training.objective;
  if (objective.kind != nn::ObjectiveKind::kCrossEntropy || !objective.class_weights.empty()) {
    table.problem("objective",
                  "a distillation mixes cross_entropy without class_weights with its teachers; no other "
                  "objective is possible");
  }
  return settings;
}

AnySettings read_federate(TableReader& table, const Deck& deck) {
  FederateSettings settings;
  auto& training = settings.training;
  table.require("model", settings.model);
  table.read("init", settings.init);
  table.require("clients", settings.clients, between(1, 1 << 20));
  table.read("rounds", settings.rounds, between(1, 1'000'000));
  table.read("fraction_fit", settings.fraction_fit, Range{.low = 0, .high = 1, .low_open = true});
  training.objective.kind = deck.objective_of(settings.model);
  read_steps(table, training, {.epochs = "local_epochs"});
  read_groups(table, training);
  training.seed = deck.run.seed;
  table.read("seed", training.seed);

  const auto words = {std::pair<std::string_view, PartitionKind>{"iid", PartitionKind::kIid},
                      {"dirichlet", PartitionKind::kDirichlet}};
  if (table.is_text("partition")) {
    table.choose("partition", settings.partition, words);
  } else {
    auto partition = table.table("partition");
    partition.choose("kind", settings.partition, words);
    if (settings.partition == PartitionKind::kDirichlet) {
      partition.read("alpha", settings.alpha, above(0));
      partition.read("min_samples", settings.min_samples, at_least(1));
    }
    partition.finish();
  }
  return settings;
}

AnySettings read_evaluate(TableReader& table, const Deck&) {
  EvaluateSettings settings;
  read_inputs(table, "models", settings.models, 1);
  read_inputs(table, "dataset", settings.datasets, 1);
  table.choose("part", settings.part,
               {{"validation", Part::kValidation},
                {"train", Part::kTrain},
                {"test", Part::kTest},
                {"all", Part::kAll}});
  return settings;
}

}  // namespace impart::stages

#include "impart/stages/training.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "impart/core/counted.hpp"
#include "impart/nn/network.hpp"
#include "impart/stages/check_context.hpp"
#include "stages/optimizer_settings.hpp"

namespace impart::stages {

namespace {

void read_mesh(Settings table, comm::MeshShape& mesh) {
  table.read("data", mesh.data, between(0, 1 << 20), "");
  table.read("pipeline", mesh.pipeline, between(1, 1 << 20), "");
  table.read("tensor", mesh.tensor, between(1, 1 << 20), "");
  if (mesh.pipeline != 1) {
    table.problem("pipeline", fmt::format("only 1 is possible yet, got {}", mesh.pipeline));
    mesh.pipeline = 1;
  }
  table.finish();
}

constexpr Range kEpochs{.low = 1, .high = 1'000'000};
constexpr Range kBatch{.low = 1, .high = 1 << 24};

nn::ObjectiveKind kind_of(std::string_view name) {
  const auto names = nn::objective_names();
  return static_cast<nn::ObjectiveKind>(std::ranges::find(names, name) - names.begin());
}

// What concerns the local steps of one model, wherever they run.
void read_steps(Settings& table, TrainingSettings& training, const StepKeys& keys) {
  table.require("dataset", training.dataset, "");
  table.read(keys.epochs, training.epochs, kEpochs, "");
  table.read(keys.batch, training.batch_size, kBatch, "");
  read_optimizer(table, training);
  read_objective(table, training.objective);
  table.read("accumulate", training.accumulate, between(1, 1 << 20), "");
  training.augment = data::augmentations().read_list(table, "augment",
                                                     "random changes of the training samples, in this order");
  training.sampler =
      data::samplers().read(table, "sampler", data::kDefaultSampler, "which samples make each step");
  if (training.solver) training.solver->objective = training.objective.kind;
  check_solver(table, training);
}

void read_train_part(Settings part, TrainPart& settings) {
  part.read("of", settings.of, between(1, 1 << 20), "");
  part.read("index", settings.index, at_least(0), "");
  if (settings.index >= settings.of) {
    part.problem("index", fmt::format("expected 0 to {}, got {}", settings.of - 1, settings.index));
    settings.index = 0;
  }
  part.finish();
}

void read_groups(Settings& table, TrainingSettings& training) {
  for (auto& group : table.tables("groups")) {
    train::ParameterGroup made;
    group.require("pattern", made.pattern, "");
    group.read("learning_rate_scale", made.learning_rate_scale, at_least(0), "");
    group.finish();
    training.groups.push_back(std::move(made));
  }
  std::vector<std::string> frozen;
  table.read("freeze", frozen, "");
  for (const auto& pattern : frozen) training.groups.push_back({.pattern = pattern, .frozen = true});
}

}  // namespace

TrainingSettings read_training(Settings& table, const Deck& deck, std::string_view objective,
                               const StepKeys& keys) {
  TrainingSettings training;
  training.objective.kind = kind_of(objective);
  read_steps(table, training, keys);
  read_train_part(table.table("train_part"), training.train_part);
  table.read("local_steps", training.local_steps, between(1, 1 << 20), "");
  if (training.local_steps > 1 && training.accumulate > 1)
    table.problem("local_steps", "every local step is an update, so that there is nothing to `accumulate`");
  read_schedule(table.table("schedule"), training.schedule);
  read_average(table.table("average"), training);
  table.choose("keep", training.keep, {{"last", train::Keep::kLast}, {"best", train::Keep::kBest}}, "");
  table.choose("monitor", training.monitor,
               {{"accuracy", std::string("accuracy")},
                {"f1_macro", std::string("f1_macro")},
                {"loss", std::string("loss")}},
               "");
  auto stopping = table.table("early_stopping");
  stopping.read("patience", training.patience, at_least(0), "");
  stopping.read("min_delta", training.min_delta, at_least(0), "");
  stopping.finish();
  read_groups(table, training);
  training.seed = deck.run.seed;
  table.read("seed", training.seed, "");
  read_mesh(table.table("mesh"), training.mesh);
  return training;
}

TrainingSettings read_local_training(Settings& table, const Deck& deck, std::string_view objective) {
  TrainingSettings training;
  training.objective.kind = kind_of(objective);
  read_steps(table, training, {.epochs = "local_epochs"});
  read_groups(table, training);
  training.seed = deck.run.seed;
  table.read("seed", training.seed, "");
  return training;
}

// What needs all ranks at once, or looks at epochs of all the data.
void check_cyclic(Settings& stage, const TrainingSettings& training) {
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

std::string effort_text(const TrainingSettings& training) {
  if (training.solver)
    return std::string(train::solver_names()[static_cast<std::size_t>(training.solver->kind)]);
  return counted(training.epochs, "epoch");
}

void check_groups(CheckContext& context, const std::string& path, const TrainingSettings& training,
                  const nn::ModelSpec& spec) {
  for (const auto& [key, text] : train::unused_patterns(training.groups, *nn::state_layout(spec)))
    context.problem(path + "." + key, text);
}

}  // namespace impart::stages

#include "impart/train/read_training.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "impart/core/counted.hpp"

namespace impart::train {

namespace {

const Range kEpochs = between(1, 1'000'000).in("epochs");
const Range kBatch = between(1, 1 << 24).in("samples");
const Range kCount = between(1, 1 << 20);

// The row of a table { kind, ... }, or of the kind alone, of the reference.
void document_kinds(Settings& stage, std::string_view key, const std::vector<std::string_view>& names,
                    std::string_view fallback, std::string_view text) {
  if (!stage.is_documenting()) return;
  stage.document({std::string(key), fmt::format("one of {}", fmt::join(names, ", ")), "",
                  fmt::format("\"{}\"", fallback), std::string(text), std::string(key)});
}

void read_clips(Settings& table, std::vector<GradientTransformPtr>& transforms) {
  double norm = 0;
  double value = 0;
  table.read("clip_norm", norm, at_least(0),
             "the gradient of all parameters together is shortened to this length; 0: never");
  table.read("clip_value", value, at_least(0),
             "each gradient is cut off at this value, after that; 0: never");
  if (norm > 0) transforms.push_back(make_clip_norm(norm));
  if (value > 0) transforms.push_back(make_clip_value(value));
}

// Whose l2 it is, is one setting in two places.
double read_objective(Settings& stage, std::string_view fallback, double l2,
                      std::shared_ptr<const nn::Objective>& objective) {
  document_kinds(stage, "objective", nn::objectives().names(), fallback, "what is minimised");
  auto table = stage.kind_table("objective");
  if (table.is_documenting()) {
    auto none = Settings::defaults();
    objective = nn::objectives().make(none, fallback);
  } else {
    objective = nn::objectives().make(table, fallback);
  }
  if (l2 > 0 && table.has("l2")) table.problem("l2", "the optimizer has an l2, too: give it once");
  table.read("l2", l2, at_least(0), "times half the sum of the squares of all weights is added to the loss");
  table.finish();
  return l2;
}

TrainPart read_part(Settings part) {
  TrainPart read;
  part.read("of", read.of, kCount, "equal slices of the training part, dealt at random by the run's seed");
  part.read("index", read.index, at_least(0), "the slice that is trained on, from 0");
  if (read.index >= read.of) {
    part.problem("index", fmt::format("expected 0 to {}, got {}", read.of - 1, read.index));
    read.index = 0;
  }
  part.finish();
  return read;
}

std::vector<ParameterGroup> read_groups(Settings& stage) {
  std::vector<ParameterGroup> groups;
  for (auto& group : stage.tables("groups")) {
    ParameterGroup made;
    group.require("pattern", made.pattern, "of the names of parameters: * is any text, ? any character");
    group.read("learning_rate_scale", made.learning_rate_scale, at_least(0), "times the optimizer's rate");
    group.finish();
    groups.push_back(std::move(made));
  }
  std::vector<std::string> frozen;
  stage.read("freeze", frozen, "patterns of the parameters that are not trained");
  for (const auto& pattern : frozen) groups.push_back({.pattern = pattern, .frozen = true});
  return groups;
}

void read_mesh(Settings table, comm::MeshShape& mesh) {
  table.read("data", mesh.data, between(0, 1 << 20).in("ranks"),
             "that share the batch; 0: all that are left");
  table.read("pipeline", mesh.pipeline, kCount, "only 1 is possible yet");
  table.read("tensor", mesh.tensor, kCount, "ranks over which each tensor is split");
  if (mesh.pipeline != 1) {
    table.problem("pipeline", fmt::format("only 1 is possible yet, got {}", mesh.pipeline));
    mesh.pipeline = 1;
  }
  table.finish();
}

// Of one training that sees all of its data: how epochs follow each other, and which is kept.
void read_epochs(Settings& stage, TrainerOptions& options) {
  stage.read("local_steps", options.local_steps, kCount,
             "of each shard by itself between two averages of their weights (local SGD)");
  options.schedule = schedules().read(stage, "schedule", kDefaultSchedule, "of the learning rate");
  options.average = averages().read(stage, "average", kDefaultAverage, "of the weights along the run");
  if (options.average->has_learning_rate() && options.optimizer->learning_rate() == 0)
    stage.table("average").problem("learning_rate", "needs an optimizer with a learning_rate above 0");
  stage.choose("keep", options.keep, {{"last", Keep::kLast}, {"best", Keep::kBest}},
               "which epoch's weights are kept");
  stage.choose("monitor", options.monitor,
               {{"accuracy", std::string("accuracy")},
                {"f1_macro", std::string("f1_macro")},
                {"loss", std::string("loss")}},
               "the metric of the validation data that says which epoch is best");
  auto stopping = stage.table("early_stopping");
  stopping.read("patience", options.patience, at_least(0).in("epochs"),
                "without improvement after which training ends; 0: never");
  stopping.read("min_delta", options.min_delta, at_least(0), "an improvement is by more than this");
  stopping.finish();
}

// The settings that are there, whatever they say: a solver has no use for any value of them.
Capabilities given(const Settings& stage, const TrainingKeys& keys) {
  using enum Feature;
  Capabilities result;
  for (const auto& [feature, key] :
       std::initializer_list<std::pair<Feature, std::string_view>>{{kEpochs, keys.epochs},
                                                                   {kSchedule, "schedule"},
                                                                   {kAccumulate, "accumulate"},
                                                                   {kLocalSteps, "local_steps"},
                                                                   {kAverage, "average"},
                                                                   {kKeep, "keep"},
                                                                   {kEarlyStopping, "early_stopping"},
                                                                   {kSampler, "sampler"},
                                                                   {kAugment, "augment"},
                                                                   {kGroupRates, "groups"},
                                                                   {kFreeze, "freeze"}}) {
    if (stage.has(key)) result.uses[feature] = {std::string(key)};
  }
  return result;
}

void check(Settings& stage, const Training& training, const TrainingKeys& keys,
           std::span<const Capabilities> stage_methods) {
  const auto& solver = training.options.solver;
  std::vector<Conflict> found;
  if (solver) found = conflicts(std::vector{solver->capabilities(), given(stage, keys)});
  auto all = capabilities_of(training.options);
  all.insert(all.end(), stage_methods.begin(), stage_methods.end());
  for (auto& conflict : conflicts(all)) {
    if (std::ranges::find(found, conflict) == found.end()) found.push_back(std::move(conflict));
  }
  for (const auto& [key, text] : found) stage.problem(key, text);
  if (!solver) return;
  const auto why = solver->why_not(*training.objective, training.options.l2);
  if (!why.empty()) stage.problem("objective", why);
}

}  // namespace

std::string Training::effort() const {
  return options.solver ? std::string(options.solver->kind()) : counted(options.epochs, "epoch");
}

Method read_method(Settings& stage) {
  auto names = optimizers().names();
  const auto rules = names.size();
  for (const auto name : solvers().names()) names.push_back(name);
  document_kinds(stage, "optimizer", names, "sgd", "what finds the weights: an optimizer, or a solver");
  auto table = stage.kind_table("optimizer");
  auto defaults = Settings::defaults();
  Method method;
  std::size_t chosen = 0;
  if (table.is_documenting()) {
    method.optimizer = optimizers().make(defaults, "sgd");
    read_clips(table, method.transforms);
    return method;
  }
  const bool good = table.choose_word("kind", chosen, names, "which one");
  if (!good) table.rest();  // of an unknown kind: nobody can say what is wrong with its settings
  auto& settings = good ? table : defaults;
  if (chosen < rules) {
    method.optimizer = optimizers().entries()[chosen].make(settings);
    read_clips(settings, method.transforms);
  } else {
    method.solver = solvers().entries()[chosen - rules].make(settings);
  }
  table.finish();
  return method;
}

Training read_training(Settings& stage, std::string_view objective, std::uint64_t seed,
                       const TrainingKeys& keys, std::span<const Capabilities> stage_methods) {
  Training training;
  auto& options = training.options;
  stage.require("dataset", training.dataset, "the name of a [dataset]");
  stage.read(keys.epochs, options.epochs, kEpochs, "how often each sample is seen");
  stage.read(keys.batch, options.batch_size, kBatch,
             "of one gradient, on all ranks; a multiple of the shards");
  auto method = read_method(stage);
  if (method.optimizer) options.optimizer = std::move(method.optimizer);
  options.solver = std::move(method.solver);
  options.transforms = std::move(method.transforms);
  const auto* solver = options.solver.get();
  if (solver != nullptr && !solver->default_objective().empty()) objective = solver->default_objective();
  options.l2 = read_objective(stage, objective, solver == nullptr ? 0 : solver->l2(), training.objective);
  stage.read("accumulate", options.accumulate, kCount, "batches of one update");
  options.augment = data::augmentations().read_list(stage, "augment",
                                                    "random changes of the training samples, in this order");
  options.sampler =
      data::samplers().read(stage, "sampler", data::kDefaultSampler, "which samples make each step");
  if (!keys.is_client) {
    training.part = read_part(stage.table("train_part"));
    read_epochs(stage, options);
  }
  options.groups = read_groups(stage);
  options.seed = seed;
  stage.read("seed", options.seed, "of initial values, order, dropout and augmentation; default: the run's");
  if (!keys.is_client) read_mesh(stage.table("mesh"), options.mesh);
  if (!stage.is_documenting()) check(stage, training, keys, stage_methods);
  return training;
}

}  // namespace impart::train

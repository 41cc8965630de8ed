// What the options of a training run ask for and rule out.

#include <fmt/format.h>

#include <algorithm>

#include "impart/nn/network.hpp"
#include "impart/train/trainer.hpp"

namespace impart::train {

namespace {

/// The features of the options themselves.
Capabilities settings_of(const TrainerOptions& options) {
  Capabilities result;
  const auto use = [&](bool has, Feature feature, const char* key) {
    if (has) result.uses[feature] = {key};
  };
  using enum Feature;
  const auto& groups = options.groups;
  use(options.accumulate > 1, kAccumulate, "accumulate");
  use(options.average->use() != Average::Use::kNone, kAverage, "average");
  use(options.keep == Keep::kBest, kKeepBest, "keep");
  use(options.patience > 0, kEarlyStopping, "early_stopping");
  use(options.schedule->is_measured(), kPlateau, "schedule");
  use(!options.augment.empty(), kAugment, "augment");
  use(std::ranges::any_of(options.augment, [](const auto& one) { return one->traits().mixes; }), kMixing,
      "augment");
  use(options.sampler != nullptr && options.sampler->traits().varying, kVaryingBatch, "sampler");
  use(std::ranges::any_of(groups, [](const auto& group) { return group.learning_rate_scale != 1; }),
      kGroupRates, "groups");
  use(std::ranges::any_of(groups, &ParameterGroup::frozen), kFreeze, "freeze");
  const auto& optimizer = *options.optimizer;
  use(optimizer.kind() != "sgd" || !optimizer.slot_names().empty(), kStatefulOptimizer, "optimizer");
  use(!options.transforms.empty(), kTransforms, "transforms");
  use(options.mesh.tensor > 1, kTensorAxis, "mesh");
  return result;
}

Capabilities varying_batch() {
  return {
      .key = "sampler",
      .refuses = {{Feature::kSyncedNorm, {"statistics of the whole batch need batches of one size", true}}}};
}

Capabilities local_steps() {
  using enum Feature;
  return {
      .key = "local_steps",
      .uses = {{kLocalSteps, {"local_steps"}}},
      .refuses = {
          {kAccumulate, {"every local step is an update, so that there is nothing to `accumulate`", true}},
          {kTensorAxis, {"each shard trains the whole model by itself: mesh.tensor = 1", true}},
          {kSyncedNorm, {"each shard trains by itself, and `sync` wants statistics of all", true}}}};
}

Capabilities final_average() {
  using enum Feature;
  return {.key = "average",
          .uses = {{kFinalAverage, {"average"}}},
          .refuses = {
              {kKeepBest, {"the mean of several epochs' weights is kept, so the best of them cannot be"}}}};
}

}  // namespace

std::vector<Capabilities> capabilities_of(const TrainerOptions& options) {
  std::vector<Capabilities> all{settings_of(options)};
  if (options.solver) all.push_back(options.solver->capabilities());
  if (options.local_steps > 1) all.push_back(local_steps());
  if (options.sampler && options.sampler->traits().varying) all.push_back(varying_batch());
  if (options.average->use() == Average::Use::kFinal) all.push_back(final_average());
  return all;
}

std::vector<Capabilities> validation_needs(const TrainerOptions& options) {
  std::vector<Capabilities> all;
  const auto need = [&](bool needs, const char* key) {
    if (needs)
      all.push_back({.key = key,
                     .needs = {{Feature::kValidation,
                                "needs validation data (give the dataset a `validation` split)"}}});
  };
  need(options.keep == Keep::kBest, "keep");
  need(options.patience > 0, "early_stopping");
  need(options.schedule->is_measured(), "schedule");
  return all;
}

Capabilities capabilities_of(const nn::Objective& objective) {
  Capabilities result{.key = "objective"};
  if (&objective.on_labels() != &objective) result.uses[Feature::kTeachers] = {"objective"};
  if (objective.needs().is_plain()) return result;
  result.uses[Feature::kTaps] = {"objective"};
  for (const auto feature : {Feature::kSolver, Feature::kLocalSteps, Feature::kTensorAxis})
    result.refuses[feature] = {fmt::format(
        "{} looks into the model, or at several streams of data, or has parts of its own: it takes "
        "an optimizer of the whole model, with local_steps = 1 and mesh.tensor = 1",
        objective.kind())};
  return result;
}

Capabilities capabilities_of(const nn::ModelSpec& spec, std::span<const ParameterGroup> groups) {
  Capabilities result{.key = "model"};
  const auto layer =
      nn::synced_layer(spec, [&](const std::string& name) { return !group_of(groups, name).frozen; });
  if (layer) result.uses[Feature::kSyncedNorm] = {"model", "layer '" + *layer + "'"};
  return result;
}

}  // namespace impart::train

// merge: one network from several. ensemble: several networks that vote.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "impart/core/log.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/objective.hpp"
#include "impart/share/combine.hpp"
#include "impart/train/recalibration.hpp"
#include "stages/check_context.hpp"
#include "stages/kinds.hpp"
#include "stages/run_context.hpp"

namespace impart::stages {

namespace {

StageUses uses_of(const std::vector<std::string>& models, const std::vector<double>& weights,
                  const char* role, const std::string& dataset) {
  StageUses uses;
  for (std::size_t i = 0; i < models.size(); ++i) {
    uses.artifacts.push_back({models[i], role, weights.empty() ? 1.0 : weights[i]});
  }
  if (!dataset.empty()) uses.datasets.push_back(dataset);
  return uses;
}

// The dataset on which the result is measured, when one is named.
void check_measured(CheckContext& context, const std::string& path, const std::string& name,
                    const nn::ModelSpec& spec) {
  if (const auto* data = context.dataset(path, name)) {
    context.match(path, spec, *data, name);
    context.need_part(path, name, *data, Part::kValidation);
  }
}

// Gives the batch norms of `model` the statistics of the dataset's training part, when one is named.
// Collective.
void recalibrate(RunContext& context, const std::string& name, std::int64_t batch_size, share::Model& model) {
  if (name.empty()) return;
  const auto& train = context.data(name).part(Part::kTrain);
  const auto& member = model.members.front();
  data::DatasetPtr samples;
  comm::agree(context.comm(), name, [&] { samples = share::inputs_of(member, train); });
  const auto& run = context.deck().run;
  const auto objective = nn::make_cross_entropy();
  train::recalibrate_batch_norm(context.comm(), member.spec, *objective,
                                {{.shards = run.shards,
                                  .threads = context.options().threads,
                                  .overlap = run.overlap,
                                  .reproducible = run.reproducible},
                                 batch_size,
                                 run.seed},
                                samples, model.state);
}

class MergeStage final : public Stage {
 public:
  explicit MergeStage(const StageSettings& common)
      : Stage(common), settings_(std::get<MergeSettings>(common.settings)) {}

  [[nodiscard]] StageUses uses() const override {
    auto uses = uses_of(settings_.inputs, settings_.weights, "input", settings_.dataset);
    const auto& recalibrated = settings_.recalibrate;
    if (!recalibrated.empty() && recalibrated != settings_.dataset) uses.datasets.push_back(recalibrated);
    return uses;
  }

  [[nodiscard]] std::string describe() const override {
    const auto& data = settings_.recalibrate;
    return fmt::format("{} of {}{}", settings_.method, fmt::join(settings_.inputs, ", "),
                       data.empty() ? "" : ", recalibrated on " + data);
  }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    const auto path = common().path + ".inputs";
    std::vector<const nn::ModelSpec*> specs;
    for (const auto& input : settings_.inputs) specs.push_back(context.network(path, input));
    if (specs.empty() || std::ranges::find(specs, nullptr) != specs.end()) return std::nullopt;
    const auto first = nn::state_layout(*specs.front());
    for (std::size_t i = 1; i < specs.size(); ++i) {
      if (const auto difference = first->difference(*nn::state_layout(*specs[i]))) {
        context.problem(path, fmt::format("'{}' and '{}' are of different architectures: {}",
                                          settings_.inputs[0], settings_.inputs[i], *difference));
      }
    }
    check_measured(context, common().path + ".dataset", settings_.dataset, *specs.front());
    check_recalibrated(context, *specs.front());
    return ModelOutline{{*specs.front()}};
  }

  // The training part is passed once, forward and backward.
  [[nodiscard]] double cost(RunContext& context) const override {
    if (settings_.recalibrate.empty()) return 0;
    const auto& spec = context.model(settings_.inputs.front()).members.front().spec;
    const auto samples = context.data(settings_.recalibrate).part(Part::kTrain)->size();
    return static_cast<double>(samples) *
           context.seconds_per_sample(
               spec, std::max<std::int64_t>(2, settings_.batch_size / context.deck().run.shards));
  }

  StageResult run(RunContext& context) const override {
    std::vector<const StateDict*> states;
    std::vector<const share::Member*> members;
    for (const auto& input : settings_.inputs) {
      states.push_back(&context.model(input).state);
      members.push_back(&context.model(input).members.front());
    }
    const auto weights =
        settings_.weights.empty() ? std::vector<double>(states.size(), 1.0) : settings_.weights;
    if (context.comm().is_root() && share::encodings_differ(members)) {
      log::warn(
          fmt::format("{}: the models were trained on data that are normalised in other ways; the "
                      "result takes the mean (give their datasets one `normalise = {{ mean, deviation }}`)",
                      name()));
    }
    StageResult result;
    comm::agree(context.comm(), settings_.method, [&] {
      auto merged = share::find_combiner(settings_.method)(states, weights);
      result.model =
          share::single(members.front()->spec, std::move(merged), share::merged_encoding(members, weights));
    });
    recalibrate(context, settings_.recalibrate, settings_.batch_size, *result.model);
    result.metrics = validation_metrics(context, settings_.dataset, *result.model);
    return result;
  }

 private:
  void check_recalibrated(CheckContext& context, const nn::ModelSpec& spec) const {
    const auto path = common().path + ".recalibrate";
    const auto* data = context.dataset(path, settings_.recalibrate);
    if (data == nullptr) return;
    if (std::ranges::find(spec.layers, "batch_norm", &nn::LayerSpec::kind) == spec.layers.end()) {
      context.problem(
          path, fmt::format("model '{}' has no batch_norm: there is nothing to recalibrate", spec.name));
    }
    context.match(path, spec, *data, settings_.recalibrate);
    context.need_part(path, settings_.recalibrate, *data, Part::kTrain);
    context.recalibration(common().path, spec, settings_.batch_size);
  }

  MergeSettings settings_;
};

class EnsembleStage final : public Stage {
 public:
  explicit EnsembleStage(const StageSettings& common)
      : Stage(common), settings_(std::get<EnsembleSettings>(common.settings)) {}

  [[nodiscard]] StageUses uses() const override {
    return uses_of(settings_.members, settings_.weights, "member", settings_.dataset);
  }

  [[nodiscard]] std::string describe() const override {
    return fmt::format("{} vote of {}", settings_.voting == share::Voting::kSoft ? "soft" : "hard",
                       fmt::join(settings_.members, ", "));
  }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    const auto path = common().path + ".members";
    ModelOutline outline;
    for (const auto& member : settings_.members) {
      const auto* spec = context.network(path, member);
      if (spec == nullptr) return std::nullopt;
      outline.members.push_back(*spec);
      const auto& first = outline.members.front();
      if (spec->input != first.input || spec->classes != first.classes) {
        context.problem(
            path, fmt::format("'{}' maps {} to {} classes, '{}' maps {} to {}", settings_.members.front(),
                              first.input.str(), first.classes, member, spec->input.str(), spec->classes));
      }
    }
    if (outline.members.empty()) return std::nullopt;
    check_measured(context, common().path + ".dataset", settings_.dataset, outline.spec());
    return outline;
  }

  StageResult run(RunContext& context) const override {
    std::vector<share::Member> members;
    std::vector<const StateDict*> states;
    for (std::size_t i = 0; i < settings_.members.size(); ++i) {
      const auto& model = context.model(settings_.members[i]);
      // Tensors' names, of which this becomes a part, have no '/'.
      auto member_name = settings_.members[i];
      std::ranges::replace(member_name, '/', '.');
      auto member = model.members.front();
      member.name = member_name;
      member.weight = settings_.weights.empty() ? 1.0 : settings_.weights[i];
      members.push_back(std::move(member));
      states.push_back(&model.state);
    }
    StageResult result;
    comm::agree(context.comm(), "ensemble", [&] {
      result.model = share::ensemble(std::move(members), std::move(states), settings_.voting);
    });
    result.metrics = validation_metrics(context, settings_.dataset, *result.model);
    return result;
  }

 private:
  EnsembleSettings settings_;
};

}  // namespace

std::unique_ptr<Stage> make_merge(const StageSettings& settings) {
  return std::make_unique<MergeStage>(settings);
}

std::unique_ptr<Stage> make_ensemble(const StageSettings& settings) {
  return std::make_unique<EnsembleStage>(settings);
}

}  // namespace impart::stages

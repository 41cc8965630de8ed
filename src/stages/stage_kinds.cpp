#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "impart/core/error.hpp"
#include "stages/kinds.hpp"

namespace impart::stages {

namespace {

constexpr StageKinds::Entry kKinds[] = {
    {"train", "a model from data, from its initial values or on from another's", make_train},
    {"transfer", "a model for another data set, from another's weights, with a new head", make_transfer},
    {"merge", "one model from several of one architecture", make_merge},
    {"ensemble", "several models that vote", make_ensemble},
    {"distil", "a student that learns from its teachers' probabilities", make_distil},
    {"federate", "one model from clients whose data stay where they are", make_federate},
    {"evaluate", "a table of models by data sets", make_evaluate},
};

/// Stands where a stage of an unknown kind would.
class UnknownStage final : public Stage {
 public:
  [[nodiscard]] StageUses uses() const override { return {}; }
  [[nodiscard]] std::string describe() const override { return ""; }
  std::optional<ModelOutline> check(CheckContext& /*context*/) const override { return std::nullopt; }
  StageResult run(RunContext& /*context*/) const override {
    throw Error("unknown kind of stage", ErrorKind::kUsage).at(path());
  }
};

void read_ranks(Settings& settings, double& ranks) {
  settings.read(
      "ranks", ranks, at_least(0).in("ranks"),
      "that run it, beside stages that it does not depend on; below 1: that part of all; 0: as suits "
      "its cost");
  if (ranks > 1 && ranks != std::floor(ranks)) {
    settings.problem("ranks",
                     fmt::format("expected a number of ranks, or a part of them below 1, got {}", ranks));
  }
}

}  // namespace

const StageKinds& stage_kinds() {
  static constexpr StageKinds kinds("stage", kKinds);
  return kinds;
}

void document_stage(Settings& settings) {
  std::string name;
  double ranks = 0;
  settings.require("name", name, "its directory in the run's, and what other stages call it");
  read_ranks(settings, ranks);
}

std::shared_ptr<const Stage> read_stage(Settings& settings, const Deck& deck) {
  StageCommon common;
  common.path = settings.path();
  const bool named = settings.require("name", common.name, "");
  if (!settings.has("kind")) settings.missing("kind");
  std::size_t kind = 0;
  std::unique_ptr<Stage> stage;
  if (settings.choose_word("kind", kind, stage_kinds().names(), "") && settings.has("kind")) {
    common.kind = stage_kinds().entries()[kind].name;
    stage = stage_kinds().entries()[kind].make(settings, deck);
    read_ranks(settings, common.ranks);
    settings.finish();
    common.resolved = to_json(settings.resolved());
  } else {
    stage = std::make_unique<UnknownStage>();
  }
  if (!named) return nullptr;
  stage->set_common(std::move(common));
  return stage;
}

void read_inputs(Settings& settings, std::string_view key, std::vector<std::string>& inputs,
                 std::size_t least, std::string_view text) {
  if (settings.require(key, inputs, text) && inputs.size() < least) {
    settings.problem(key, fmt::format("expected at least {}, got {}", least, inputs.size()));
  }
}

void read_weights(Settings& settings, std::vector<double>& weights, std::size_t inputs, const Range& range,
                  std::string_view text) {
  if (!settings.read("weights", weights, range, text) || weights.empty()) return;
  if (weights.size() != inputs) {
    settings.problem("weights",
                     fmt::format("expected {} weights, one for each input, got {}", inputs, weights.size()));
  } else if (std::ranges::all_of(weights, [](double w) { return w == 0; })) {
    settings.problem("weights", "expected at least one above 0");
  }
}

StageUses uses_of(const std::vector<std::string>& models, const std::vector<double>& weights,
                  const char* role, const std::string& dataset) {
  StageUses uses;
  for (std::size_t i = 0; i < models.size(); ++i) {
    uses.artifacts.push_back({models[i], role, i < weights.size() ? weights[i] : 1.0});
  }
  if (!dataset.empty()) uses.datasets.push_back(dataset);
  return uses;
}

}  // namespace impart::stages

#include "stages/kinds.hpp"

#include <fmt/format.h>

#include <cmath>

#include "impart/core/error.hpp"
#include "stages/settings.hpp"

namespace impart::stages {

namespace {

struct Kind {
  std::string_view name;
  AnySettings (*read)(TableReader& table, const Deck& deck);
  std::unique_ptr<Stage> (*make)(const StageSettings& settings);
};

constexpr Kind kKinds[] = {
    {"train", read_train, make_train},          {"transfer", read_transfer, make_transfer},
    {"merge", read_merge, make_merge},          {"ensemble", read_ensemble, make_ensemble},
    {"distil", read_distil, make_distil},       {"federate", read_federate, make_federate},
    {"evaluate", read_evaluate, make_evaluate},
};

}  // namespace

std::vector<std::string_view> stage_kinds() {
  std::vector<std::string_view> names;
  for (const auto& kind : kKinds) names.push_back(kind.name);
  return names;
}

std::optional<StageSettings> read_stage(TableReader& table, const Deck& deck) {
  StageSettings stage;
  stage.path = table.path();
  const bool named = table.require("name", stage.name);
  if (!table.has("kind")) table.missing("kind");
  if (const auto kind = table.find_word("kind", stage_kinds())) {
    stage.kind = kKinds[*kind].name;
    stage.settings = kKinds[*kind].read(table, deck);
    table.read("ranks", stage.ranks, at_least(0));
    if (stage.ranks > 1 && stage.ranks != std::floor(stage.ranks))
      table.problem(
          "ranks", fmt::format("expected a number of ranks, or a part of them below 1, got {}", stage.ranks));
    table.finish();
    stage.resolved = table.resolved();
  }
  if (!named) return std::nullopt;
  return stage;
}

std::unique_ptr<Stage> make_stage(const StageSettings& settings) {
  for (const auto& kind : kKinds) {
    if (kind.name == settings.kind) return kind.make(settings);
  }
  throw Error("unknown kind of stage", ErrorKind::kUsage).at(settings.path).got("'" + settings.kind + "'");
}

}  // namespace impart::stages

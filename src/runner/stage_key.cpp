#include "runner/stage_key.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "impart/core/digest.hpp"
#include "impart/nn/spec.hpp"
#include "impart/nn/wisdom.hpp"

namespace impart::runner {

namespace {

using Json = nlohmann::ordered_json;

Json settings_of(const stages::Deck& deck, const stages::Stage& stage) {
  const auto uses = stage.uses();
  Json models = Json::object();
  for (const auto& name : uses.models) models[name] = Json::parse(nn::to_json(*deck.find_model(name)));
  Json datasets = Json::object();
  for (const auto& name : uses.datasets) datasets[name] = Json::parse(deck.find_dataset(name)->resolved);
  Json settings{{"stage", Json::parse(stage.common().resolved)},
                {"models", std::move(models)},
                {"datasets", std::move(datasets)},
                {"seed", deck.run.seed},
                {"shards", deck.run.shards}};
  if (!deck.run.wisdom.empty()) settings["kernels"] = nn::kernel_choice();  // other kernels, other bits
  if (!deck.run.reproducible) settings["reproducible"] = false;
  return settings;
}

}  // namespace

std::string resolved_settings(const stages::Deck& deck, const stages::Stage& stage) {
  return settings_of(deck, stage).dump();
}

std::vector<std::string> changed_settings(const std::string& then, const std::string& now) {
  const auto before = Json::parse(then).flatten();
  const auto after = Json::parse(now).flatten();
  const auto text_of = [](const Json& all, const std::string& path) {
    const auto found = all.find(path);
    return found == all.end() ? std::string("nothing") : found->dump();
  };
  std::vector<std::string> paths;
  for (const auto* all : {&before, &after}) {
    for (const auto& [path, value] : all->items()) {
      if (std::ranges::find(paths, path) == paths.end()) paths.push_back(path);
    }
  }
  std::vector<std::string> changes;
  for (const auto& path : paths) {
    const auto old_text = text_of(before, path);
    const auto new_text = text_of(after, path);
    if (old_text == new_text || path.starts_with("/stage/mesh/") || path == "/stage/ranks") continue;
    auto name = path.substr(1);
    std::ranges::replace(name, '/', '.');
    changes.push_back(fmt::format("{} {} -> {}", name, old_text, new_text));
  }
  return changes;
}

std::string stage_key(const stages::Deck& deck, const stages::Stage& stage,
                      const std::map<std::string, std::string>& inputs,
                      const std::map<std::string, std::string>& data) {
  auto settings = settings_of(deck, stage);
  // The fingerprint says what was read; where it was read from does not matter. Nor do the ranks, and the
  // shape of their mesh.
  for (auto& dataset : settings["datasets"]) {
    for (const auto* key : {"file", "files", "images", "labels", "samples", "vocabulary"}) dataset.erase(key);
  }
  for (const auto* key : {"mesh", "ranks"}) settings["stage"].erase(key);
  Hasher hasher;
  hasher.text("impart stage key 1").text(IMPART_VERSION).text(settings.dump());
  for (const auto* map : {&inputs, &data}) {
    hasher.number(static_cast<std::int64_t>(map->size()));
    for (const auto& [name, digest] : *map) hasher.text(name).text(digest);
  }
  return hasher.finish().hex();
}

}  // namespace impart::runner

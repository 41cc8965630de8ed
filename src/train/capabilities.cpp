#include "impart/train/capabilities.hpp"

#include <algorithm>

#include "impart/core/settings.hpp"

namespace impart::train {

namespace {

void add(std::vector<Conflict>& list, Conflict conflict) {
  if (std::ranges::find(list, conflict) == list.end()) list.push_back(std::move(conflict));
}

}  // namespace

std::vector<Conflict> conflicts(std::span<const Capabilities> all) {
  std::map<Feature, std::vector<Capabilities::Use>> used;
  for (const auto& method : all) {
    for (const auto& [feature, use] : method.uses) used[feature].push_back(use);
  }
  std::map<Feature, std::vector<Conflict>> found;
  for (const auto& method : all) {
    for (const auto& [feature, refusal] : method.refuses) {
      const auto users = used.find(feature);
      if (users == used.end()) continue;
      for (const auto& [key, what] : users->second) {
        add(found[feature], {refusal.at_own_key ? method.key : key,
                             what.empty() ? refusal.text : what + ": " + refusal.text});
      }
    }
    for (const auto& [feature, text] : method.needs) {
      if (!used.contains(feature)) add(found[feature], {method.key, text});
    }
  }
  std::vector<Conflict> result;
  for (auto& [feature, list] : found) {
    for (auto& conflict : list) add(result, std::move(conflict));
  }
  return result;
}

void report_conflicts(Settings& stage, std::span<const Capabilities> all) {
  for (const auto& [key, text] : conflicts(all)) stage.problem(key, text);
}

}  // namespace impart::train

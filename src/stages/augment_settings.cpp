#include "stages/augment_settings.hpp"

namespace impart::stages {

std::vector<data::AugmentationPtr> read_augment(TableReader& table) {
  std::vector<data::AugmentationPtr> list;
  for (auto& inner : table.tables("augment")) {
    SettingTable plain;
    for (const auto& [key, value] : inner.read_rest()) {
      std::visit(
          [&, &name = key](auto setting) {
            plain.emplace_back(name, setting);
            // What it says is part of the stage's identity.
            if constexpr (requires { inner.read(name, setting); }) inner.read(name, setting);
          },
          value);
    }
    Problems problems;
    const Places places;
    Settings settings(plain, "", places, problems);
    auto made = data::augmentations().make(settings, "");
    settings.finish();
    for (const auto& line : problems.lines()) {
      const auto colon = line.find(": ");
      const bool has_key = colon != std::string::npos && line.find(' ') > colon;
      inner.problem(has_key ? line.substr(0, colon) : "", has_key ? line.substr(colon + 2) : line);
    }
    if (problems.empty()) list.push_back(std::move(made));
  }
  return list;
}

}  // namespace impart::stages

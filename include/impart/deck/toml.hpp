// The text of a deck, as settings with their places.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "impart/core/problems.hpp"
#include "impart/core/setting_value.hpp"

namespace impart::deck {

/// How many tables may lie in each other, dotted keys counted: more are no deck, and would exhaust the stack.
inline constexpr int kMaxLevels = 64;

/// The settings of a document in TOML 1.0 after the `--set` of the command line ("key=value"); nothing when it is
/// not TOML at all (a problem). Keys of a table are in alphabetical order, whatever the text's. `places` gets the
/// place of every key, `path:line`. No communication, no file is read.
std::optional<SettingTable> read_toml(const std::string& text, const std::filesystem::path& path,
                                      const std::vector<std::string>& overrides, Places& places,
                                      Problems& problems);

}  // namespace impart::deck

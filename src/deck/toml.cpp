#include "impart/deck/toml.hpp"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <array>

#include "impart/core/settings.hpp"
#include "impart/core/suggest.hpp"

namespace impart::deck {

namespace {

std::string join(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

/// Finds the line of a key, or a header, of too many levels. The parser makes a table for each, and then, as each
/// of those who visit them, calls itself once a level; of arrays and inline tables it limits the depth itself.
class LevelCounter {
 public:
  explicit LevelCounter(std::string_view text) : text_(text) {}

  std::optional<int> first_too_deep() {
    while (at_ < text_.size()) {
      if (skip_text() || skip_comment()) continue;
      const char c = text_[at_++];
      if (c == '\n') ++line_;
      if (c == '.') {
        if (++levels_ >= kMaxLevels) return line_;
      } else if (std::string_view("\n=[]{},").find(c) != std::string_view::npos) {
        levels_ = 0;
      }
    }
    return std::nullopt;
  }

 private:
  [[nodiscard]] bool starts_with(std::string_view what) const { return text_.substr(at_).starts_with(what); }

  bool skip_text() {
    for (const std::string_view quote : {"\"\"\"", "'''", "\"", "'"}) {
      if (!starts_with(quote)) continue;
      at_ += quote.size();
      while (at_ < text_.size() && !starts_with(quote)) {
        if (text_[at_] == '\n') {
          if (quote.size() == 1) return true;  // an error of the text, which the parser tells
          ++line_;
        }
        at_ += quote[0] == '"' && text_[at_] == '\\' ? 2 : 1;
      }
      at_ = std::min(at_ + quote.size(), text_.size());
      return true;
    }
    return false;
  }

  bool skip_comment() {
    if (!starts_with("#")) return false;
    at_ = std::min(text_.find('\n', at_), text_.size());
    return true;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int line_ = 1;
  int levels_ = 0;
};

SettingValue value_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::string:
      return node.as_string()->get();
    case toml::node_type::integer:
      return node.as_integer()->get();
    case toml::node_type::floating_point:
      return node.as_floating_point()->get();
    case toml::node_type::boolean:
      return node.as_boolean()->get();
    case toml::node_type::array: {
      SettingArray array;
      for (const auto& element : *node.as_array()) array.push_back(value_of(element));
      return array;
    }
    case toml::node_type::table: {
      SettingTable table;
      for (const auto& [key, value] : *node.as_table()) table.emplace_back(key.str(), value_of(value));
      return table;
    }
    default:
      return OtherValue{"a date or time"};
  }
}

/// Finds where each setting was written: `value` is what `node` holds.
void collect_places(const toml::node& node, const SettingValue& value, const std::string& path,
                    const std::string& file, Places& places) {
  const auto line = static_cast<int>(node.source().begin.line);
  if (line > 0) places.add(path, {fmt::format("{}:{}", file, line), line});
  if (const auto* table = node.as_table()) {
    auto setting = value.as<SettingTable>()->begin();
    for (const auto& [key, inner] : *table) {
      const auto here = join(path, key.str());
      // The key's own line: a long table may begin far above the value's end.
      const auto key_line = static_cast<int>(key.source().begin.line);
      collect_places(inner, (setting++)->second, here, file, places);
      if (key_line > 0) places.add(here, {fmt::format("{}:{}", file, key_line), key_line});
    }
  } else if (const auto* array = node.as_array()) {
    const auto& settings = *value.as<SettingArray>();
    for (std::size_t i = 0; i < array->size(); ++i) {
      if (array->get(i)->is_table())
        collect_places(*array->get(i), settings[i], element_path(path, settings, i), file, places);
    }
  }
}

// "5e-4", "true", "[1, 2]" are TOML; a bare word is a string.
SettingValue parse_value(const std::string& text) {
  const auto line = "value = " + text;
  if (LevelCounter(line).first_too_deep()) return text;
  try {
    const auto parsed = toml::parse(line);
    if (parsed.size() == 1) return value_of(*parsed.get("value"));
  } catch (const toml::parse_error&) {
    // not TOML: a string
  }
  return text;
}

std::vector<std::string> split_key(std::string_view key) {
  std::vector<std::string> parts;
  while (true) {
    const auto dot = key.find('.');
    parts.emplace_back(key.substr(0, dot));
    if (dot == std::string_view::npos) return parts;
    key.remove_prefix(dot + 1);
  }
}

SettingValue* find(SettingTable& table, std::string_view name) {
  const auto found = std::ranges::find(table, name, &SettingTable::value_type::first);
  return found == table.end() ? nullptr : &found->second;
}

template <class T>
T* find_as(SettingTable& table, std::string_view name) {
  auto* value = find(table, name);
  return value == nullptr ? nullptr : std::get_if<T>(&value->value);
}

SettingTable* table_of(SettingValue& value) { return std::get_if<SettingTable>(&value.value); }

// The table of that name, made if it is not there; null when something else has the name.
SettingTable* inner_table(SettingTable& table, const std::string& name) {
  if (find(table, name) == nullptr) put_setting(table, name, SettingTable());
  return find_as<SettingTable>(table, name);
}

// "did you mean 'teacher'?" for a --set key whose first parts name no table.
std::string nearest_table(SettingTable& root, const std::vector<std::string>& parts) {
  static constexpr std::array<std::string_view, 4> kinds{"run", "dataset", "model", "stage"};
  if (std::ranges::find(kinds, parts[0]) == kinds.end()) return suggestion(parts[0], kinds);
  if (parts.size() < 2) return "";
  std::vector<std::string_view> names;
  if (auto* stages = find_as<SettingArray>(root, parts[0])) {
    for (auto& stage : *stages) {
      const auto* name =
          table_of(stage) == nullptr ? nullptr : find_as<std::string>(*table_of(stage), "name");
      if (name != nullptr) names.emplace_back(*name);
    }
  } else if (const auto* tables = find_as<SettingTable>(root, parts[0])) {
    for (const auto& [name, table] : *tables) names.emplace_back(name);
  }
  return suggestion(parts[1], names);
}

// The table that the first parts of a --set key name: [run], [dataset.NAME], [model.NAME], or the stage of
// that name.
SettingTable* find_target(SettingTable& root, const std::vector<std::string>& parts) {
  if (parts[0] == "run") return inner_table(root, "run");
  if (parts.size() < 2) return nullptr;
  if (parts[0] == "stage") {
    auto* stages = find_as<SettingArray>(root, "stage");
    for (std::size_t i = 0; stages != nullptr && i < stages->size(); ++i) {
      auto* stage = table_of((*stages)[i]);
      const auto* name = stage == nullptr ? nullptr : find_as<std::string>(*stage, "name");
      if (name != nullptr && *name == parts[1]) return stage;
    }
    return nullptr;
  }
  if (parts[0] != "dataset" && parts[0] != "model") return nullptr;
  auto* kind = find_as<SettingTable>(root, parts[0]);
  return kind == nullptr ? nullptr : find_as<SettingTable>(*kind, parts[1]);
}

void apply_override(SettingTable& root, const std::string& assignment, Places& places, Problems& problems) {
  const Place place{"--set " + assignment, 0};
  const auto equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    problems.add(place, "expected key=value, as in stage.teacher.epochs=1");
    return;
  }
  const auto key = assignment.substr(0, equals);
  const auto parts = split_key(key);
  if (parts.size() > kMaxLevels) {
    problems.add(place, fmt::format("expected a key of at most {} levels, got {}", kMaxLevels, parts.size()));
    return;
  }
  auto* table = find_target(root, parts);
  std::size_t next = parts[0] == "run" ? 1 : 2;
  if (table == nullptr || next >= parts.size()) {
    const auto near = table == nullptr ? nearest_table(root, parts) : "";
    problems.add(
        place, fmt::format("the deck has no '{}' ({})", key,
                           near.empty() ? "expected run.KEY, or dataset., model. or stage.NAME.KEY" : near));
    return;
  }
  for (; next + 1 < parts.size(); ++next) {
    table = inner_table(*table, parts[next]);
    if (table == nullptr) {
      problems.add(place, fmt::format("'{}' is not a table", parts[next]));
      return;
    }
  }
  put_setting(*table, parts.back(), parse_value(assignment.substr(equals + 1)));
  places.add(key, place);
}

}  // namespace

std::optional<SettingTable> read_toml(const std::string& text, const std::filesystem::path& path,
                                      const std::vector<std::string>& overrides, Places& places,
                                      Problems& problems) {
  const auto here = [&](int line) { return Place{fmt::format("{}:{}", path.string(), line), line}; };
  if (const auto line = LevelCounter(text).first_too_deep()) {
    problems.add(here(*line), fmt::format("expected at most {} tables in each other", kMaxLevels));
    return std::nullopt;
  }
  toml::table parsed;
  try {
    parsed = toml::parse(text);
  } catch (const toml::parse_error& e) {
    problems.add(here(static_cast<int>(e.source().begin.line)), fmt::format("not TOML: {}", e.description()));
    return std::nullopt;
  }
  const SettingValue value = value_of(parsed);
  collect_places(parsed, value, "", path.string(), places);
  places.add("", {path.string(), 0});
  auto root = *value.as<SettingTable>();
  for (const auto& assignment : overrides) apply_override(root, assignment, places, problems);
  return root;
}

}  // namespace impart::deck

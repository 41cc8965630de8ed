#include "stages/toml_reader.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <toml++/toml.h>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "impart/core/suggest.hpp"

namespace impart::stages {

namespace {

using Json = nlohmann::ordered_json;

// What came, as a user would say it.
std::string describe(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::string:
      return fmt::format("the string \"{}\"", node.as_string()->get());
    case toml::node_type::integer:
      return fmt::format("the integer {}", node.as_integer()->get());
    case toml::node_type::floating_point:
      return fmt::format("the number {}", node.as_floating_point()->get());
    case toml::node_type::boolean:
      return node.as_boolean()->get() ? "the boolean true" : "the boolean false";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::table:
      return "a table";
    default:
      return "a date or time";
  }
}

bool is_list_of_integers(const toml::array& array) {
  return std::ranges::all_of(array, [](const toml::node& node) { return node.is_integer(); });
}

bool is_word(std::string_view text) {
  return !text.empty() && text.find_first_of(".[] \t\n") == std::string_view::npos;
}

// The "name" of a table in an array; empty when there is none.
std::string_view name_of(const toml::array& array, std::size_t i) {
  const auto* table = array.get_as<toml::table>(i);
  const auto* name = table == nullptr ? nullptr : table->get_as<std::string>("name");
  return name == nullptr ? std::string_view() : std::string_view(name->get());
}

// A table in an array is known by its name, when it has one that no table before it has.
std::string element_path(const std::string& array_path, const toml::array& array, std::size_t i) {
  const auto name = name_of(array, i);
  bool first = is_word(name);
  for (std::size_t k = 0; k < i && first; ++k) first = name_of(array, k) != name;
  return first ? fmt::format("{}.{}", array_path, name) : fmt::format("{}[{}]", array_path, i + 1);
}

std::string join(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

void collect_places(const toml::node& node, const std::string& path, const std::string& file,
                    Places& places) {
  const auto line = static_cast<int>(node.source().begin.line);
  if (line > 0) places.add(path, {fmt::format("{}:{}", file, line), line});
  if (const auto* table = node.as_table()) {
    for (const auto& [key, value] : *table) {
      const auto here = join(path, key.str());
      // The key's own line: a long table may begin far above the value's end.
      const auto key_line = static_cast<int>(key.source().begin.line);
      collect_places(value, here, file, places);
      if (key_line > 0) places.add(here, {fmt::format("{}:{}", file, key_line), key_line});
    }
  } else if (const auto* array = node.as_array()) {
    for (std::size_t i = 0; i < array->size(); ++i) {
      if (array->get(i)->is_table())
        collect_places(*array->get(i), element_path(path, *array, i), file, places);
    }
  }
}

// "5e-4", "true", "[1, 2]" are TOML; a bare word is a string.
toml::table parse_value(const std::string& text) {
  try {
    auto parsed = toml::parse("value = " + text);
    if (parsed.size() == 1) return parsed;
  } catch (const toml::parse_error&) {
    // not TOML: a string
  }
  toml::table word;
  word.insert("value", text);
  return word;
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

// "did you mean 'teacher'?" for a --set key whose first parts name no table.
std::string nearest_table(const toml::table& root, const std::vector<std::string>& parts) {
  static constexpr std::array<std::string_view, 4> kinds{"run", "dataset", "model", "stage"};
  if (std::ranges::find(kinds, parts[0]) == kinds.end()) return suggestion(parts[0], kinds);
  if (parts.size() < 2) return "";
  std::vector<std::string_view> names;
  if (const auto* stages = root.get_as<toml::array>(parts[0])) {
    for (std::size_t i = 0; i < stages->size(); ++i) names.push_back(name_of(*stages, i));
  } else if (const auto* tables = root.get_as<toml::table>(parts[0])) {
    for (const auto& [name, table] : *tables) names.push_back(name.str());
  }
  return suggestion(parts[1], names);
}

// The table that the first parts of a --set key name: [run], [dataset.NAME], [model.NAME], or the stage of
// that name.
toml::table* find_target(toml::table& root, const std::vector<std::string>& parts) {
  if (parts[0] == "run") return root.insert("run", toml::table{}).first->second.as_table();
  if (parts.size() < 2) return nullptr;
  if (parts[0] == "stage") {
    auto* stages = root.get_as<toml::array>("stage");
    for (std::size_t i = 0; stages != nullptr && i < stages->size(); ++i) {
      auto* stage = stages->get_as<toml::table>(i);
      const auto* name = stage == nullptr ? nullptr : stage->get_as<std::string>("name");
      if (name != nullptr && name->get() == parts[1]) return stage;
    }
    return nullptr;
  }
  if (parts[0] != "dataset" && parts[0] != "model") return nullptr;
  auto* kind = root.get_as<toml::table>(parts[0]);
  return kind == nullptr ? nullptr : kind->get_as<toml::table>(parts[1]);
}

void apply_override(toml::table& root, const std::string& assignment, Places& places, Problems& problems) {
  const Place place{"--set " + assignment, 0};
  const auto equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    problems.add(place, "expected key=value, as in stage.teacher.epochs=1");
    return;
  }
  const auto key = assignment.substr(0, equals);
  const auto parts = split_key(key);
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
    auto* inner = table->insert(parts[next], toml::table{}).first->second.as_table();
    if (inner == nullptr) {
      problems.add(place, fmt::format("'{}' is not a table", parts[next]));
      return;
    }
    table = inner;
  }
  auto parsed = parse_value(assignment.substr(equals + 1));
  parsed.get("value")->visit([&](auto& value) { table->insert_or_assign(parts.back(), std::move(value)); });
  places.add(key, place);
}

}  // namespace

bool Range::holds(double value) const {
  return (low_open ? value > low : value >= low) && (high_open ? value < high : value <= high);
}

std::string Range::str() const {
  std::vector<std::string> parts;
  if (std::isfinite(low)) parts.push_back(fmt::format("{} {}", low_open ? "above" : "at least", low));
  if (std::isfinite(high)) parts.push_back(fmt::format("{} {}", high_open ? "below" : "at most", high));
  return fmt::format("{}", fmt::join(parts, " and "));
}

struct TableReader::Impl {
  struct Shared {
    toml::table root;
    const Places& places;
    Problems& problems;
  };
  std::shared_ptr<Shared> shared;
  const toml::table* table;  // null: the table is not there, all values are the defaults
  std::string path;
  std::set<std::string, std::less<>> known;
  std::shared_ptr<Json> resolved = std::make_shared<Json>(Json::object());
  std::vector<std::pair<std::string, std::shared_ptr<Impl>>> children;

  const toml::node* take(std::string_view key) {
    known.emplace(key);
    return table == nullptr ? nullptr : table->get(key);
  }

  void wrong_type(std::string_view key, std::string_view expected, const toml::node& got) {
    shared->problems.add(shared->places, join(path, key),
                         fmt::format("expected {}, got {}", expected, describe(got)));
  }

  void out_of_range(std::string_view key, const Range& range, const std::string& got) {
    shared->problems.add(shared->places, join(path, key),
                         fmt::format("expected {}, got {}", range.str(), got));
  }

  template <class T>
  void keep(std::string_view key, const T& value) {
    (*resolved)[std::string(key)] = value;
  }

  template <class T>
  void read_integer(std::string_view key, T& value, const Range& range) {
    if (const auto* node = take(key)) {
      const auto* integer = node->as_integer();
      if (integer == nullptr) {
        wrong_type(key, "an integer", *node);
      } else if (!range.holds(static_cast<double>(integer->get())) || !std::in_range<T>(integer->get())) {
        out_of_range(key, range, std::to_string(integer->get()));
      } else {
        value = static_cast<T>(integer->get());
      }
    }
    keep(key, value);
  }

  std::shared_ptr<Impl> child(const toml::table* inner, std::string inner_path) const {
    auto made = std::make_shared<Impl>();
    made->shared = shared;
    made->table = inner;
    made->path = std::move(inner_path);
    return made;
  }

  [[nodiscard]] Json to_json() const {
    Json all = *resolved;
    for (const auto& [key, inner] : children) {
      if (key.ends_with("[]")) {
        all[key.substr(0, key.size() - 2)].push_back(inner->to_json());
      } else {
        all[key] = inner->to_json();
      }
    }
    return all;
  }
};

TableReader::TableReader(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

bool TableReader::has(std::string_view key) const {
  return impl_->table != nullptr && impl_->table->contains(key);
}

const std::string& TableReader::path() const { return impl_->path; }

std::string TableReader::path(std::string_view key) const { return join(impl_->path, key); }

void TableReader::read(std::string_view key, bool& value) {
  if (const auto* node = impl_->take(key)) {
    const auto* boolean = node->as_boolean();
    if (boolean == nullptr) {
      impl_->wrong_type(key, "true or false", *node);
    } else {
      value = boolean->get();
    }
  }
  impl_->keep(key, value);
}

void TableReader::read(std::string_view key, int& value, Range range) {
  impl_->read_integer(key, value, range);
}

void TableReader::read(std::string_view key, std::int64_t& value, Range range) {
  impl_->read_integer(key, value, range);
}

void TableReader::read(std::string_view key, std::uint64_t& value) {
  impl_->read_integer(key, value, at_least(0));
}

void TableReader::read(std::string_view key, double& value, Range range) {
  if (const auto* node = impl_->take(key)) {
    const auto number = node->is_number() ? node->value<double>() : std::nullopt;
    if (!number) {
      impl_->wrong_type(key, "a number", *node);
    } else if (!std::isfinite(*number) || !range.holds(*number)) {
      impl_->out_of_range(key, range, fmt::format("{}", *number));
    } else {
      value = *number;
    }
  }
  impl_->keep(key, value);
}

void TableReader::read(std::string_view key, std::optional<double>& value, Range range) {
  if (!has(key)) {
    impl_->take(key);
    impl_->keep(key, nullptr);
    return;
  }
  double number = value.value_or(1);
  read(key, number, range);
  value = number;
}

void TableReader::read(std::string_view key, std::string& value) {
  if (const auto* node = impl_->take(key)) {
    const auto* text = node->as_string();
    if (text == nullptr) {
      impl_->wrong_type(key, "a string", *node);
    } else {
      value = text->get();
    }
  }
  impl_->keep(key, value);
}

void TableReader::read_name_or_number(std::string_view key, std::string& value) {
  if (const auto* node = impl_->take(key)) {
    if (const auto* integer = node->as_integer()) {
      value = std::to_string(integer->get());
    } else if (const auto* text = node->as_string()) {
      value = text->get();
    } else {
      impl_->wrong_type(key, "a name or a number", *node);
    }
  }
  impl_->keep(key, value);
}

void TableReader::read(std::string_view key, std::vector<std::string>& value) {
  if (const auto* node = impl_->take(key)) {
    std::vector<std::string> texts;
    if (const auto* text = node->as_string()) {
      texts.push_back(text->get());
    } else if (const auto* array = node->as_array()) {
      for (const auto& element : *array) {
        if (const auto* word = element.as_string()) {
          texts.push_back(word->get());
        } else {
          impl_->wrong_type(key, "an array of strings", element);
          break;
        }
      }
    } else {
      impl_->wrong_type(key, "an array of strings", *node);
    }
    value = std::move(texts);
  }
  impl_->keep(key, value);
}

void TableReader::read(std::string_view key, std::vector<double>& value, Range range) {
  if (const auto* node = impl_->take(key)) {
    std::vector<double> numbers;
    const auto* array = node->as_array();
    if (array == nullptr) impl_->wrong_type(key, "an array of numbers", *node);
    for (std::size_t i = 0; array != nullptr && i < array->size(); ++i) {
      const auto& element = *array->get(i);
      const auto number = element.is_number() ? element.value<double>() : std::nullopt;
      if (!number) {
        impl_->wrong_type(key, "an array of numbers", element);
        break;
      }
      if (!std::isfinite(*number) || !range.holds(*number)) {
        impl_->out_of_range(key, range, fmt::format("{}", *number));
        break;
      }
      numbers.push_back(*number);
    }
    value = std::move(numbers);
  }
  impl_->keep(key, value);
}

void TableReader::read(std::string_view key, Shape& value) {
  if (const auto* node = impl_->take(key)) {
    std::vector<std::int64_t> dims;
    const auto* array = node->as_array();
    if (array == nullptr || array->empty())
      impl_->wrong_type(key, "an array of extents, as [1, 28, 28]", *node);
    // Products of extents stay far below 2^63.
    const auto range = between(1, 1 << 20);
    for (std::size_t i = 0; array != nullptr && i < array->size() && i < 8; ++i) {
      const auto* extent = array->get(i)->as_integer();
      if (extent == nullptr) {
        impl_->wrong_type(key, "an array of extents, as [1, 28, 28]", *array->get(i));
        return;
      }
      if (!range.holds(static_cast<double>(extent->get()))) {
        impl_->out_of_range(key, range, std::to_string(extent->get()));
        return;
      }
      dims.push_back(extent->get());
    }
    value = Shape(std::move(dims));
  }
  const auto dims = value.dims();
  impl_->keep(key, std::vector<std::int64_t>(dims.begin(), dims.end()));
}

std::size_t TableReader::choose_word(std::string_view key, const std::vector<std::string_view>& words,
                                     std::size_t chosen) {
  if (has(key)) return find_word(key, words).value_or(chosen);
  impl_->take(key);
  impl_->keep(key, words.at(chosen));
  return chosen;
}

std::optional<std::size_t> TableReader::find_word(std::string_view key,
                                                  const std::vector<std::string_view>& words) {
  const auto* node = impl_->take(key);
  const auto* text = node == nullptr ? nullptr : node->as_string();
  if (text == nullptr) {
    if (node != nullptr) impl_->wrong_type(key, "a string", *node);
    return std::nullopt;
  }
  impl_->keep(key, text->get());
  if (const auto found = std::ranges::find(words, text->get()); found != words.end()) {
    return static_cast<std::size_t>(found - words.begin());
  }
  const auto hint = suggestion(text->get(), words);
  problem(key, fmt::format("expected {}, got '{}'{}", fmt::join(words, ", "), text->get(),
                           hint.empty() ? "" : fmt::format(" ({})", hint)));
  return std::nullopt;
}

TableReader TableReader::table(std::string_view key) {
  const auto* node = impl_->take(key);
  const auto* inner = node == nullptr ? nullptr : node->as_table();
  if (node != nullptr && inner == nullptr) impl_->wrong_type(key, "a table", *node);
  auto made = impl_->child(inner, path(key));
  impl_->children.emplace_back(key, made);
  return TableReader(std::move(made));
}

bool TableReader::is_text(std::string_view key) const {
  return has(key) && impl_->table->get(key)->is_string();
}

bool TableReader::is_table(std::string_view key) const {
  return has(key) && impl_->table->get(key)->is_table();
}

std::vector<std::pair<std::string, TableReader>> TableReader::named_tables(std::string_view key) {
  std::vector<std::pair<std::string, TableReader>> all;
  const auto* node = impl_->take(key);
  const auto* group = node == nullptr ? nullptr : node->as_table();
  if (node != nullptr && group == nullptr)
    impl_->wrong_type(key, fmt::format("tables [{}.NAME]", key), *node);
  if (group == nullptr) return all;
  for (const auto& [name, value] : *group) {
    const auto inner_path = join(path(key), name.str());
    if (const auto* inner = value.as_table()) {
      all.emplace_back(std::string(name.str()), TableReader(impl_->child(inner, inner_path)));
    } else {
      impl_->shared->problems.add(impl_->shared->places, inner_path,
                                  fmt::format("expected a table [{}.NAME], got {}", key, describe(value)));
    }
  }
  return all;
}

std::vector<TableReader> TableReader::tables(std::string_view key) {
  std::vector<TableReader> all;
  const auto* node = impl_->take(key);
  const auto* array = node == nullptr ? nullptr : node->as_array();
  if (node != nullptr && array == nullptr) impl_->wrong_type(key, "an array of tables", *node);
  for (std::size_t i = 0; array != nullptr && i < array->size(); ++i) {
    const auto* inner = array->get_as<toml::table>(i);
    if (inner == nullptr) {
      impl_->wrong_type(key, "an array of tables", *array->get(i));
      break;
    }
    auto made = impl_->child(inner, element_path(path(key), *array, i));
    impl_->children.emplace_back(std::string(key) + "[]", made);
    all.push_back(TableReader(std::move(made)));
  }
  return all;
}

SettingTable TableReader::read_rest() {
  SettingTable settings;
  if (impl_->table == nullptr) return settings;
  for (const auto& [key, value] : *impl_->table) {
    if (impl_->known.contains(key.str())) continue;
    const std::string name(key.str());
    impl_->known.insert(name);
    if (const auto* boolean = value.as_boolean()) {
      settings.emplace_back(name, boolean->get());
    } else if (const auto* integer = value.as_integer()) {
      settings.emplace_back(name, integer->get());
    } else if (const auto* number = value.as_floating_point()) {
      settings.emplace_back(name, number->get());
    } else if (const auto* text = value.as_string()) {
      settings.emplace_back(name, text->get());
    } else if (const auto* list = value.as_array(); list != nullptr && is_list_of_integers(*list)) {
      std::vector<std::int64_t> integers;
      for (const auto& element : *list) integers.push_back(element.as_integer()->get());
      settings.emplace_back(name, std::move(integers));
    } else {
      impl_->wrong_type(name, "a number, a string, true, false, or a list of integers", value);
    }
  }
  return settings;
}

void TableReader::refuse(std::string_view key, std::string_view text) {
  if (impl_->take(key) != nullptr) problem(key, text);
}

std::size_t TableReader::problem_count() const { return impl_->shared->problems.size(); }

void TableReader::missing(std::string_view key) { problem("", fmt::format("'{}' is missing", key)); }

void TableReader::problem(std::string_view key, std::string_view text) {
  impl_->shared->problems.add(impl_->shared->places, key.empty() ? path() : path(key), text);
}

void TableReader::finish() {
  if (impl_->table == nullptr) return;
  const std::vector<std::string_view> known(impl_->known.begin(), impl_->known.end());
  for (const auto& [key, value] : *impl_->table) {
    if (impl_->known.contains(key.str())) continue;
    const auto near = suggestion(key.str(), known);
    const auto hint = near.empty() ? fmt::format("known here: {}", fmt::join(known, ", ")) : near;
    impl_->shared->problems.add(
        impl_->shared->places.find(path(key.str())),
        fmt::format("{}{}unknown key '{}' ({})", path(), path().empty() ? "" : ": ", key.str(), hint));
  }
}

std::string TableReader::resolved() const { return impl_->to_json().dump(); }

std::optional<TableReader> read_toml(const std::string& text, const std::filesystem::path& path,
                                     const std::vector<std::string>& overrides, Places& places,
                                     Problems& problems) {
  toml::table root;
  try {
    root = toml::parse(text);
  } catch (const toml::parse_error& e) {
    const auto line = static_cast<int>(e.source().begin.line);
    problems.add({fmt::format("{}:{}", path.string(), line), line},
                 fmt::format("not TOML: {}", e.description()));
    return std::nullopt;
  }
  collect_places(root, "", path.string(), places);
  places.add("", {path.string(), 0});
  for (const auto& assignment : overrides) apply_override(root, assignment, places, problems);
  auto impl = std::make_shared<TableReader::Impl>();
  impl->shared = std::make_shared<TableReader::Impl::Shared>(
      TableReader::Impl::Shared{std::move(root), places, problems});
  impl->table = &impl->shared->root;
  return TableReader(std::move(impl));
}

}  // namespace impart::stages

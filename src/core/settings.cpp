#include "impart/core/settings.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "impart/core/suggest.hpp"

namespace impart {

namespace {

std::string join(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

bool is_word(std::string_view text) {
  return !text.empty() && text.find_first_of(".[] \t\n") == std::string_view::npos;
}

// The "name" of a table in an array; empty when there is none.
std::string_view name_of(const SettingValue& element) {
  const auto* table = element.as<SettingTable>();
  const auto* name = table == nullptr ? nullptr : find_setting(*table, "name");
  const auto* text = name == nullptr ? nullptr : name->as<std::string>();
  return text == nullptr ? std::string_view() : std::string_view(*text);
}

const SettingTable& empty_table() {
  static const SettingTable table;
  return table;
}

std::string words_of(const std::vector<std::string_view>& words) {
  return fmt::format("one of {}", fmt::join(words, ", "));
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

// A table in an array is known by its name, when it has one that no table before it has.
std::string element_path(const std::string& array_path, const SettingArray& array, std::size_t i) {
  const auto name = name_of(array[i]);
  bool first = is_word(name);
  for (std::size_t k = 0; k < i && first; ++k) first = name_of(array[k]) != name;
  return first ? fmt::format("{}.{}", array_path, name) : fmt::format("{}[{}]", array_path, i + 1);
}

struct Settings::Impl {
  const SettingTable* table = &empty_table();
  SettingTable own;  // what `table` is, where it stands in for a word
  std::string path;
  const Places* places = nullptr;
  Problems* problems = nullptr;  // null: defaults are read
  std::vector<SettingDoc>* docs = nullptr;
  std::string prefix;  // of the docs' keys
  std::set<std::string, std::less<>> known;
  SettingTable resolved;
  std::vector<std::pair<std::string, std::shared_ptr<Impl>>> children;  // "key", or "key[]" of a list

  const SettingValue* take(std::string_view key) {
    known.emplace(key);
    return find_setting(*table, key);
  }

  bool fail(std::string_view key, std::string_view text) const {
    // A kind that was given by its name alone is told where that stands.
    const bool is_whole = key.empty() || (table == &own && key == "kind");
    if (problems != nullptr) problems->add(*places, is_whole ? path : join(path, key), text);
    return false;
  }

  bool wrong_type(std::string_view key, std::string_view expected, const SettingValue& got) const {
    return fail(key, fmt::format("expected {}, got {}", expected, got.describe()));
  }

  bool out_of_range(std::string_view key, const Range& range, double got) const {
    const auto limits = range.str();
    if (!std::isfinite(got) || limits.empty())
      return fail(key, fmt::format("expected a finite number, got {}", got));
    return fail(key, fmt::format("expected {}, got {}", limits, got));
  }

  void document(std::string_view key, std::string type, const Range& range, const SettingValue& fallback,
                std::string_view text) const {
    if (docs == nullptr) return;
    auto limits = range.str();
    if (!range.unit.empty()) limits = fmt::format("{}{}{}", limits, limits.empty() ? "" : " ", range.unit);
    docs->push_back({prefix + std::string(key), std::move(type), std::move(limits), to_json(fallback),
                     std::string(text), ""});
  }

  // The number at `key`, or in an array there, when it is good.
  bool take_number(std::string_view key, std::string_view expected, const SettingValue& got,
                   const Range& range, double& value) const {
    if (!got.is_number()) return wrong_type(key, expected, got);
    const double number = got.number();
    if (!std::isfinite(number) || !range.holds(number)) return out_of_range(key, range, number);
    value = number;
    return true;
  }

  template <class T>
  bool take_integer(std::string_view key, std::string_view expected, const SettingValue& got,
                    const Range& range, T& value) const {
    const auto* integer = got.as<std::int64_t>();
    if (integer == nullptr) return wrong_type(key, expected, got);
    if (!range.holds(static_cast<double>(*integer)) || !std::in_range<T>(*integer)) {
      const auto limits = range.str();
      return fail(key,
                  fmt::format("expected {}, got {}", limits.empty() ? "a smaller number" : limits, *integer));
    }
    value = static_cast<T>(*integer);
    return true;
  }

  template <class T>
  bool read_integer(std::string_view key, T& value, const Range& range, std::string_view text) {
    document(key, "integer", range, static_cast<std::int64_t>(value), text);
    const auto* got = take(key);
    const bool good = got == nullptr || take_integer(key, "an integer", *got, range, value);
    put_setting(resolved, key, static_cast<std::int64_t>(value));
    return good;
  }

  /// An array, each element of which `take_element` appends to `value`.
  template <class T, class TakeElement>
  bool read_array(std::string_view key, std::vector<T>& value, std::string_view expected,
                  const TakeElement& take_element) {
    const auto* got = take(key);
    bool good = true;
    if (got != nullptr) {
      const auto* array = got->as<SettingArray>();
      std::vector<T> taken;
      if (array == nullptr) good = wrong_type(key, expected, *got);
      for (std::size_t i = 0; good && i < array->size(); ++i) {
        T element{};
        good = take_element((*array)[i], element);
        taken.push_back(std::move(element));
      }
      if (good) value = std::move(taken);
    }
    put_setting(resolved, key, value);
    return good;
  }

  std::shared_ptr<Impl> child(const SettingTable* inner, std::string inner_path,
                              const std::string& key) const {
    auto made = std::make_shared<Impl>();
    if (inner != nullptr) made->table = inner;
    made->path = std::move(inner_path);
    made->places = places;
    made->problems = problems;
    made->docs = docs;
    made->prefix = prefix + key + ".";
    return made;
  }

  [[nodiscard]] SettingTable all_resolved() const {
    auto all = resolved;
    for (const auto& [key, inner] : children) {
      if (!key.ends_with("[]")) {
        put_setting(all, key, inner->all_resolved());
        continue;
      }
      const auto name = key.substr(0, key.size() - 2);
      const auto* before = find_setting(all, name);
      auto list = before == nullptr ? SettingArray() : *before->as<SettingArray>();
      list.emplace_back(inner->all_resolved());
      put_setting(all, name, std::move(list));
    }
    return all;
  }
};

Settings::Settings(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Settings::Settings(const SettingTable& table, std::string path, const Places& places, Problems& problems)
    : impl_(std::make_shared<Impl>()) {
  impl_->table = &table;
  impl_->path = std::move(path);
  impl_->places = &places;
  impl_->problems = &problems;
}

Settings Settings::defaults(std::vector<SettingDoc>* docs) {
  auto impl = std::make_shared<Impl>();
  impl->docs = docs;
  return Settings(std::move(impl));
}

bool Settings::has(std::string_view key) const { return find_setting(*impl_->table, key) != nullptr; }
const std::string& Settings::path() const { return impl_->path; }
std::string Settings::path(std::string_view key) const { return join(impl_->path, key); }
bool Settings::is_documenting() const { return impl_->problems == nullptr; }

bool Settings::read(std::string_view key, bool& value, std::string_view text) {
  impl_->document(key, "true or false", {}, value, text);
  const auto* got = impl_->take(key);
  const auto* flag = got == nullptr ? nullptr : got->as<bool>();
  if (flag != nullptr) value = *flag;
  const bool good = got == nullptr || flag != nullptr || impl_->wrong_type(key, "true or false", *got);
  put_setting(impl_->resolved, key, value);
  return good;
}

bool Settings::read(std::string_view key, int& value, const Range& range, std::string_view text) {
  return impl_->read_integer(key, value, range, text);
}

bool Settings::read(std::string_view key, std::int64_t& value, const Range& range, std::string_view text) {
  return impl_->read_integer(key, value, range, text);
}

bool Settings::read(std::string_view key, std::uint64_t& value, std::string_view text) {
  return impl_->read_integer(key, value, at_least(0), text);
}

bool Settings::read(std::string_view key, double& value, const Range& range, std::string_view text) {
  impl_->document(key, "number", range, value, text);
  const auto* got = impl_->take(key);
  const bool good = got == nullptr || impl_->take_number(key, "a number", *got, range, value);
  put_setting(impl_->resolved, key, value);
  return good;
}

bool Settings::read(std::string_view key, std::optional<double>& value, const Range& range,
                    std::string_view otherwise, std::string_view text) {
  impl_->document(key, "number", range, otherwise, text);
  const auto* got = impl_->take(key);
  double number = 0;
  const bool good = got == nullptr || impl_->take_number(key, "a number", *got, range, number);
  if (got != nullptr && good) value = number;
  if (value) put_setting(impl_->resolved, key, *value);
  return good;
}

bool Settings::read(std::string_view key, std::string& value, std::string_view text) {
  impl_->document(key, "text", {}, value, text);
  const auto* got = impl_->take(key);
  const auto* word = got == nullptr ? nullptr : got->as<std::string>();
  if (word != nullptr) value = *word;
  const bool good = got == nullptr || word != nullptr || impl_->wrong_type(key, "a string", *got);
  put_setting(impl_->resolved, key, value);
  return good;
}

bool Settings::read_name_or_number(std::string_view key, std::string& value, std::string_view text) {
  impl_->document(key, "text or integer", {}, value, text);
  const auto* got = impl_->take(key);
  bool good = true;
  if (got != nullptr) {
    const auto* integer = got->as<std::int64_t>();
    const auto* word = got->as<std::string>();
    if (integer != nullptr) value = std::to_string(*integer);
    if (word != nullptr) value = *word;
    good = integer != nullptr || word != nullptr || impl_->wrong_type(key, "a name or a number", *got);
  }
  put_setting(impl_->resolved, key, value);
  return good;
}

bool Settings::read(std::string_view key, std::vector<std::string>& value, std::string_view text) {
  impl_->document(key, "list of texts", {}, value, text);
  const auto* got = impl_->take(key);
  if (const auto* word = got == nullptr ? nullptr : got->as<std::string>()) {
    value = {*word};
    put_setting(impl_->resolved, key, value);
    return true;
  }
  constexpr std::string_view expected = "an array of strings";
  return impl_->read_array(key, value, expected, [&](const SettingValue& element, std::string& taken) {
    const auto* word = element.as<std::string>();
    if (word != nullptr) taken = *word;
    return word != nullptr || impl_->wrong_type(key, expected, element);
  });
}

bool Settings::read(std::string_view key, std::vector<double>& value, const Range& range,
                    std::string_view text) {
  impl_->document(key, "list of numbers", range, value, text);
  constexpr std::string_view expected = "an array of numbers";
  return impl_->read_array(key, value, expected, [&](const SettingValue& element, double& taken) {
    return impl_->take_number(key, expected, element, range, taken);
  });
}

bool Settings::read(std::string_view key, std::vector<std::int64_t>& value, const Range& range,
                    std::string_view text) {
  impl_->document(key, "list of integers", range, value, text);
  constexpr std::string_view expected = "an array of integers";
  return impl_->read_array(key, value, expected, [&](const SettingValue& element, std::int64_t& taken) {
    return impl_->take_integer(key, expected, element, range, taken);
  });
}

bool Settings::read(std::string_view key, Shape& value, std::string_view text) {
  constexpr std::string_view expected = "an array of extents, as [1, 28, 28]";
  constexpr std::size_t kMostExtents = 8;
  std::vector<std::int64_t> dims(value.dims().begin(), value.dims().end());
  impl_->document(key, "list of extents", {}, dims, text);
  const auto* got = impl_->take(key);
  const auto* array = got == nullptr ? nullptr : got->as<SettingArray>();
  bool good = true;
  if (got != nullptr && (array == nullptr || array->empty() || array->size() > kMostExtents)) {
    good = impl_->wrong_type(key, expected, *got);
  } else {
    // Products of extents stay far below 2^63.
    good = impl_->read_array(key, dims, expected, [&](const SettingValue& element, std::int64_t& taken) {
      return impl_->take_integer(key, expected, element, between(1, 1 << 20), taken);
    });
  }
  if (good) value = Shape(dims);
  put_setting(impl_->resolved, key, dims);
  return good;
}

bool Settings::choose_word(std::string_view key, std::size_t& chosen,
                           const std::vector<std::string_view>& words, std::string_view text) {
  impl_->document(key, words_of(words), {}, words.at(chosen), text);
  const auto* got = impl_->take(key);
  const auto* word = got == nullptr ? nullptr : got->as<std::string>();
  bool good = got == nullptr || word != nullptr || impl_->wrong_type(key, "a string", *got);
  if (word != nullptr) {
    const auto found = std::ranges::find(words, *word);
    good = found != words.end();
    if (good) {
      chosen = static_cast<std::size_t>(found - words.begin());
    } else {
      const auto near = suggestion(*word, words);
      problem(key, fmt::format("expected {}, got '{}'{}", fmt::join(words, ", "), *word,
                               near.empty() ? "" : fmt::format(" ({})", near)));
    }
  }
  put_setting(impl_->resolved, key, words.at(chosen));
  return good;
}

Settings Settings::table(std::string_view key) {
  const auto* got = impl_->take(key);
  const auto* inner = got == nullptr ? nullptr : got->as<SettingTable>();
  if (got != nullptr && inner == nullptr) impl_->wrong_type(key, "a table", *got);
  auto made = impl_->child(inner, path(key), std::string(key));
  impl_->children.emplace_back(key, made);
  return Settings(std::move(made));
}

Settings Settings::kind_table(std::string_view key) {
  if (!is_text(key)) return table(key);
  auto made = impl_->child(nullptr, path(key), std::string(key));
  made->own = {{"kind", *impl_->take(key)}};
  made->table = &made->own;
  impl_->children.emplace_back(key, made);
  return Settings(std::move(made));
}

bool Settings::is_text(std::string_view key) const {
  const auto* got = find_setting(*impl_->table, key);
  return got != nullptr && got->as<std::string>() != nullptr;
}

bool Settings::is_table(std::string_view key) const {
  const auto* got = find_setting(*impl_->table, key);
  return got != nullptr && got->as<SettingTable>() != nullptr;
}

std::vector<std::pair<std::string, Settings>> Settings::named_tables(std::string_view key) {
  std::vector<std::pair<std::string, Settings>> all;
  const auto* got = impl_->take(key);
  const auto* group = got == nullptr ? nullptr : got->as<SettingTable>();
  if (got != nullptr && group == nullptr) impl_->wrong_type(key, fmt::format("tables [{}.NAME]", key), *got);
  if (group == nullptr) return all;
  for (const auto& [name, value] : *group) {
    const auto inner_path = join(path(key), name);
    if (const auto* inner = value.as<SettingTable>()) {
      all.emplace_back(name, Settings(impl_->child(inner, inner_path, std::string(key))));
    } else if (impl_->problems != nullptr) {
      impl_->problems->add(*impl_->places, inner_path,
                           fmt::format("expected a table [{}.NAME], got {}", key, value.describe()));
    }
  }
  return all;
}

std::vector<Settings> Settings::tables(std::string_view key) { return list(key, false); }
std::vector<Settings> Settings::kind_tables(std::string_view key) { return list(key, true); }

std::vector<Settings> Settings::list(std::string_view key, bool with_words) {
  std::vector<Settings> all;
  const auto name = std::string(key) + "[]";
  if (is_documenting()) {
    if (impl_->docs != nullptr) all.push_back(Settings(impl_->child(nullptr, path(key), name)));
    return all;
  }
  const std::string_view expected = with_words ? "an array of tables or strings" : "an array of tables";
  const auto* got = impl_->take(key);
  const auto* array = got == nullptr ? nullptr : got->as<SettingArray>();
  if (got != nullptr && array == nullptr) impl_->wrong_type(key, expected, *got);
  for (std::size_t i = 0; array != nullptr && i < array->size(); ++i) {
    const auto& element = (*array)[i];
    const auto* inner = element.as<SettingTable>();
    const bool is_word = with_words && element.as<std::string>() != nullptr;
    if (inner == nullptr && !is_word) {
      impl_->wrong_type(key, expected, element);
      break;
    }
    auto made = impl_->child(inner, element_path(path(key), *array, i), name);
    if (is_word) {
      made->own = {{"kind", element}};
      made->table = &made->own;
    }
    impl_->children.emplace_back(name, made);
    all.push_back(Settings(std::move(made)));
  }
  return all;
}

SettingTable Settings::rest() {
  SettingTable rest;
  for (const auto& [key, value] : *impl_->table) {
    if (impl_->known.insert(key).second) rest.emplace_back(key, value);
  }
  return rest;
}

void Settings::refuse(std::string_view key, std::string_view text) {
  if (impl_->take(key) != nullptr) problem(key, text);
}

void Settings::renamed(std::string_view key, std::string_view successor) {
  // Not among the known keys that are suggested for a mistyped one.
  if (!has(key)) return;
  refuse(key, fmt::format("is called `{}` now", successor));
}

void Settings::missing(std::string_view key) { problem("", fmt::format("'{}' is missing", key)); }

void Settings::problem(std::string_view key, std::string_view text) { impl_->fail(key, text); }

std::size_t Settings::problem_count() const {
  return impl_->problems == nullptr ? 0 : impl_->problems->size();
}

void Settings::finish() {
  if (impl_->problems == nullptr) return;
  const std::vector<std::string_view> known(impl_->known.begin(), impl_->known.end());
  std::set<std::string_view> seen;
  for (const auto& [key, value] : *impl_->table) {
    if (!seen.insert(key).second) problem(key, "is given twice");
    if (impl_->known.contains(key)) continue;
    const auto near = suggestion(key, known);
    const auto hint = !near.empty()   ? near
                      : known.empty() ? std::string("there are no settings here")
                                      : fmt::format("known here: {}", fmt::join(known, ", "));
    impl_->problems->add(impl_->places->find(path(key)), fmt::format("{}{}unknown key '{}' ({})", path(),
                                                                     path().empty() ? "" : ": ", key, hint));
  }
}

SettingTable Settings::resolved() const { return impl_->all_resolved(); }

void Settings::document(SettingDoc doc) {
  if (impl_->docs == nullptr) return;
  doc.key.insert(0, impl_->prefix);
  impl_->docs->push_back(std::move(doc));
}

}  // namespace impart

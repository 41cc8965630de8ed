// Settings: a typed, ranged and documented reader of a table of settings.
//
// Who uses a setting declares it, once, by reading it: name, type, range and unit, default, one line of text.
// The same call reads a deck, a layer of a checkpoint, and, when nothing is read but documentation wanted, makes
// the row of the reference (`impart help`).
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/core/problems.hpp"
#include "impart/core/setting_value.hpp"
#include "impart/core/tensor.hpp"

namespace impart {

/// Which numbers a setting takes, and in what they are counted.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false;
  bool high_open = false;
  std::string_view unit = {};  ///< "epochs"

  [[nodiscard]] bool holds(double value) const;
  [[nodiscard]] std::string str() const;  ///< "at least 1", "above 0 and at most 1"
  [[nodiscard]] Range in(std::string_view counted) const {
    auto range = *this;
    range.unit = counted;
    return range;
  }
};
inline Range any_number() { return {}; }
inline Range at_least(double low) { return {.low = low}; }
inline Range above(double low) { return {.low = low, .low_open = true}; }
inline Range between(double low, double high) { return {.low = low, .high = high}; }
inline Range below(double low, double high) { return {.low = low, .high = high, .high_open = true}; }
inline Range within(double low, double high) {
  return {.low = low, .high = high, .low_open = true, .high_open = true};
}
inline Range above_up_to(double low, double high) { return {.low = low, .high = high, .low_open = true}; }

/// One setting of the reference.
struct SettingDoc {
  std::string key;       ///< "momentum"; of a table in it "mesh.data", of a list of tables "groups[].pattern"
  std::string type;      ///< "integer", "number", "text", "true or false", "one of sgd, adam" ...
  std::string range;     ///< "at least 0 epochs"; may be empty
  std::string fallback;  ///< what holds when it is not given, as JSON; "required"
  std::string text;      ///< one line
  std::string topic;     ///< of `impart help`, where its kinds are told: "optimizer"; may be empty
};

/// A cursor over one table. Each `read` takes the value of a key, when it is there, into `value`, which holds
/// the default, and returns false when that is not a good one: wrong types and ranges become problems, and leave
/// the default. All values, defaults too, are kept: `resolved`. A key that was never read is unknown: `finish`
/// says so. `text` is the setting's line of the reference. Copies share their state.
class Settings {
 public:
  /// Borrows all: they outlive the reader, and its copies and children. `path`: of the table, for messages.
  Settings(const SettingTable& table, std::string path, const Places& places, Problems& problems);
  /// Reads nothing and reports nothing: every value is its default. `docs`, if not null, gets a row for each.
  static Settings defaults(std::vector<SettingDoc>* docs = nullptr);

  [[nodiscard]] bool has(std::string_view key) const;
  /// "stage.teacher.optimizer", or a key's path in it.
  [[nodiscard]] const std::string& path() const;
  [[nodiscard]] std::string path(std::string_view key) const;
  /// True when defaults are read, and what is required is not there: nothing may be made of the values.
  [[nodiscard]] bool is_documenting() const;

  bool read(std::string_view key, bool& value, std::string_view text);
  bool read(std::string_view key, int& value, const Range& range, std::string_view text);
  bool read(std::string_view key, std::int64_t& value, const Range& range, std::string_view text);
  bool read(std::string_view key, std::uint64_t& value, std::string_view text);
  bool read(std::string_view key, double& value, const Range& range, std::string_view text);
  /// Nothing when it is not there; then `otherwise` is told as the default.
  bool read(std::string_view key, std::optional<double>& value, const Range& range,
            std::string_view otherwise, std::string_view text);
  bool read(std::string_view key, std::string& value, std::string_view text);
  /// An array, or one text.
  bool read(std::string_view key, std::vector<std::string>& value, std::string_view text);
  bool read(std::string_view key, std::vector<double>& value, const Range& range, std::string_view text);
  bool read(std::string_view key, std::vector<std::int64_t>& value, const Range& range,
            std::string_view text);
  bool read(std::string_view key, Shape& value, std::string_view text);
  /// A text, or an integer as text: a column by name or by number.
  bool read_name_or_number(std::string_view key, std::string& value, std::string_view text);

  /// As `read`, but a missing key is a problem. Returns whether the value is there and good.
  template <class T, class... Arguments>
  bool require(std::string_view key, T& value, const Arguments&... arguments) {
    const bool there = has(key);
    const bool good = read(key, value, arguments...);
    if (!there) missing(key);
    return there && good;
  }

  /// One of several words, the first of which need not be the default.
  template <class E>
  bool choose(std::string_view key, E& value, std::initializer_list<std::pair<std::string_view, E>> words,
              std::string_view text) {
    std::vector<std::string_view> known;
    std::size_t chosen = 0;
    for (const auto& [word, meaning] : words) {
      if (meaning == value) chosen = known.size();
      known.push_back(word);
    }
    const bool good = choose_word(key, chosen, known, text);
    value = (words.begin() + static_cast<std::ptrdiff_t>(chosen))->second;
    return good;
  }
  /// `chosen`: the index of the default among `words`; afterwards of the word that is there.
  bool choose_word(std::string_view key, std::size_t& chosen, const std::vector<std::string_view>& words,
                   std::string_view text);

  /// A table; an empty one when the key is not there.
  Settings table(std::string_view key);
  /// The same, or a text, which stands for the table { kind = TEXT }.
  Settings kind_table(std::string_view key);
  /// True when the key holds text rather than a table, so that `kind = "x"` may be written for
  /// `{ kind = "x" }`.
  [[nodiscard]] bool is_text(std::string_view key) const;
  [[nodiscard]] bool is_table(std::string_view key) const;
  /// The tables in a table, by name: [dataset.*].
  std::vector<std::pair<std::string, Settings>> named_tables(std::string_view key);
  /// An array of tables; each is reported under its "name", when that is a word of its own, or else its
  /// position. Where documentation is made, there is one, whose settings are told under "key[]".
  std::vector<Settings> tables(std::string_view key);
  /// The same, of tables and texts, which stand for { kind = TEXT }: [ "flip", { kind = "crop" } ].
  std::vector<Settings> kind_tables(std::string_view key);
  /// All keys that have not been read, as they are: somebody else reads them.
  SettingTable rest();

  /// A key that goes with another choice: when it is there, that is the problem, and not that it is unknown.
  void refuse(std::string_view key, std::string_view text);
  /// A key that is gone: when it is there, its successor is told.
  void renamed(std::string_view key, std::string_view successor);
  void missing(std::string_view key);
  /// Empty `key`: of the table itself.
  void problem(std::string_view key, std::string_view text);
  /// How many problems there are by now, of whatever reader.
  [[nodiscard]] std::size_t problem_count() const;
  /// Reports what was not read, and what is there twice.
  void finish();
  /// All that was read under this table, in the order of reading.
  [[nodiscard]] SettingTable resolved() const;
  /// Adds a row to the documentation, where that is made: for what reads by other means, as Registry.
  void document(SettingDoc doc);

 private:
  struct Impl;
  explicit Settings(std::shared_ptr<Impl> impl);
  std::vector<Settings> list(std::string_view key, bool with_words);

  std::shared_ptr<Impl> impl_;
};

/// The path under which element `i` of an array of tables is reported: "stage.teacher", "groups[2]".
std::string element_path(const std::string& array_path, const SettingArray& array, std::size_t i);

/// What `read` makes of `table`, which it must read whole. Throws Error (usage), `where` in front, for the first
/// thing that is wrong.
template <class Read>
auto read_settings(const SettingTable& table, std::string_view where, Read read) {
  Problems problems;
  const Places places;
  Settings settings(table, "", places, problems);
  auto made = read(settings);
  settings.finish();
  if (problems.empty()) return made;
  Error error(problems.lines().front(), ErrorKind::kUsage);
  if (!where.empty()) error.at(std::string(where));
  throw error;
}

}  // namespace impart

// TableReader: typed values out of a TOML table, with every problem collected and none thrown.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "impart/core/problems.hpp"
#include "impart/core/tensor.hpp"
#include "impart/nn/spec.hpp"

namespace impart::stages {

/// Which numbers a key takes.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false;
  bool high_open = false;

  [[nodiscard]] bool holds(double value) const;
  [[nodiscard]] std::string str() const;  ///< "at least 1", "above 0 and at most 1"
};
inline Range at_least(double low) { return {.low = low}; }
inline Range above(double low) { return {.low = low, .low_open = true}; }
inline Range between(double low, double high) { return {.low = low, .high = high}; }

/// A cursor over one table of a document. Each `read` takes the value of a key, when it is there, into
/// `value`, which holds the default; wrong types and ranges become problems, and leave the default. All
/// values, defaults too, are kept as JSON. A key that was never read is unknown: `finish` says so. Copies
/// share their state.
class TableReader {
 public:
  [[nodiscard]] bool has(std::string_view key) const;
  /// "stage.teacher.optimizer", or a key's path in it.
  [[nodiscard]] const std::string& path() const;
  [[nodiscard]] std::string path(std::string_view key) const;

  void read(std::string_view key, bool& value);
  void read(std::string_view key, int& value, Range range = {});
  void read(std::string_view key, std::int64_t& value, Range range = {});
  void read(std::string_view key, std::uint64_t& value);
  void read(std::string_view key, double& value, Range range = {});
  void read(std::string_view key, std::optional<double>& value,
            Range range = {});  ///< JSON null when not there
  void read(std::string_view key, std::string& value);
  void read(std::string_view key, std::vector<std::string>& value);  ///< an array, or one string
  void read(std::string_view key, std::vector<double>& value, Range range = {});
  void read(std::string_view key, Shape& value);
  /// A string, or an integer as text: a column by name or by number.
  void read_name_or_number(std::string_view key, std::string& value);

  /// As `read`, but a missing key is a problem. Returns whether the value is there and good.
  template <class T, class... Limits>
  bool require(std::string_view key, T& value, Limits... limits) {
    const auto before = problem_count();
    if (!has(key)) missing(key);
    read(key, value, limits...);
    return problem_count() == before;
  }

  /// One of several words.
  template <class E>
  void choose(std::string_view key, E& value, std::initializer_list<std::pair<std::string_view, E>> words) {
    std::vector<std::string_view> known;
    std::size_t chosen = 0;
    for (const auto& [word, meaning] : words) {
      if (meaning == value) chosen = known.size();
      known.push_back(word);
    }
    value = (words.begin() + static_cast<std::ptrdiff_t>(choose_word(key, known, chosen)))->second;
  }
  /// Index of the word; `chosen` when the key is not there, or has another value (a problem).
  std::size_t choose_word(std::string_view key, const std::vector<std::string_view>& words,
                          std::size_t chosen);
  /// Index of the word; nothing when the key has another value (a problem).
  std::optional<std::size_t> find_word(std::string_view key, const std::vector<std::string_view>& words);

  /// A table; an empty one when the key is not there.
  TableReader table(std::string_view key);
  /// True when the key holds a string rather than a table, so that `kind = "x"` may be written for `{ kind =
  /// "x" }`.
  [[nodiscard]] bool is_text(std::string_view key) const;
  /// True when the key holds a table rather than a single value.
  [[nodiscard]] bool is_table(std::string_view key) const;
  /// The tables in a table, by name: [dataset.*].
  std::vector<std::pair<std::string, TableReader>> named_tables(std::string_view key);
  /// An array of tables; each is reported under its "name", when that is a word of its own, or else its
  /// position.
  std::vector<TableReader> tables(std::string_view key);
  /// All keys that have not been read, as settings of a layer or of a model of the zoo: scalars and lists of
  /// integers.
  SettingTable read_rest();

  /// A key that goes with another choice: when it is there, that is the problem, and not that it is unknown.
  void refuse(std::string_view key, std::string_view text);
  void missing(std::string_view key);
  void problem(std::string_view key, std::string_view text);
  /// Reports what was not read.
  void finish();
  /// JSON of all that was read under this table.
  [[nodiscard]] std::string resolved() const;

  struct Impl;
  explicit TableReader(std::shared_ptr<Impl> impl);

 private:
  [[nodiscard]] std::size_t problem_count() const;

  std::shared_ptr<Impl> impl_;
};

/// The document's top table, after the `--set` of the command line; nothing when it is not TOML at all (a
/// problem). `places` gets the place of every key. REQUIRES: `places` and `problems` outlive the reader.
std::optional<TableReader> read_toml(const std::string& text, const std::filesystem::path& path,
                                     const std::vector<std::string>& overrides, Places& places,
                                     Problems& problems);

}  // namespace impart::stages

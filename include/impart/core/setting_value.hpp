// SettingValue: a setting as plain data, wherever it was written: a deck, a checkpoint, code.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace impart {

struct SettingValue;
using SettingArray = std::vector<SettingValue>;
/// Names and values, in the order in which they were written. Readers refuse a name that is there twice.
using SettingTable = std::vector<std::pair<std::string, SettingValue>>;

/// What no setting takes, by its name: "a date or time".
struct OtherValue {
  std::string what;
  friend bool operator==(const OtherValue&, const OtherValue&) = default;
};

/// One value: a truth value, an integer, a number, text, an array, or a table.
struct SettingValue {
  using Variant =
      std::variant<OtherValue, bool, std::int64_t, double, std::string, SettingArray, SettingTable>;

  SettingValue() = default;
  SettingValue(bool v) : value(v) {}
  SettingValue(int v) : value(std::int64_t{v}) {}
  SettingValue(std::int64_t v) : value(v) {}
  SettingValue(double v) : value(v) {}
  SettingValue(std::string v) : value(std::move(v)) {}
  SettingValue(std::string_view v) : value(std::string(v)) {}
  SettingValue(const char* v) : value(std::string(v)) {}
  SettingValue(SettingArray v) : value(std::move(v)) {}
  SettingValue(SettingTable v) : value(std::move(v)) {}
  SettingValue(OtherValue v) : value(std::move(v)) {}
  SettingValue(const std::vector<std::int64_t>& v) : value(SettingArray(v.begin(), v.end())) {}
  SettingValue(const std::vector<double>& v) : value(SettingArray(v.begin(), v.end())) {}
  SettingValue(const std::vector<std::string>& v) : value(SettingArray(v.begin(), v.end())) {}

  /// The value as `T`, one of the variant's types; null when it is another.
  template <class T>
  [[nodiscard]] const T* as() const noexcept {
    return std::get_if<T>(&value);
  }
  [[nodiscard]] bool is_number() const noexcept { return as<std::int64_t>() || as<double>(); }
  /// REQUIRES: is_number().
  [[nodiscard]] double number() const;
  /// As a message says it: "the text \"five\"", "the integer 5", "an array".
  [[nodiscard]] std::string describe() const;

  Variant value;

  friend bool operator==(const SettingValue&, const SettingValue&);
};

/// The value of that name; null when there is none.
const SettingValue* find_setting(const SettingTable& table, std::string_view name) noexcept;
/// Puts `value` in place of the one of that name, or at the end.
void put_setting(SettingTable& table, std::string_view name, SettingValue value);

/// Objects, arrays and values of JSON (RFC 8259), and back: equal values have equal texts. A number that is not
/// finite, and OtherValue, become null. Reading throws Error on anything that is not JSON, or has a null.
std::string to_json(const SettingValue& value);
SettingValue setting_from_json(std::string_view text);

}  // namespace impart

#include "nn/settings.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "impart/core/error.hpp"
#include "impart/core/suggest.hpp"

namespace impart::nn {

namespace {

std::string describe(const SettingValue& value) {
  struct Visitor {
    std::string operator()(bool b) const { return b ? "true" : "false"; }
    std::string operator()(std::int64_t i) const { return std::to_string(i); }
    std::string operator()(double d) const { return fmt::format("{}", d); }
    std::string operator()(const std::string& s) const { return "\"" + s + "\""; }
    std::string operator()(const std::vector<std::int64_t>& list) const {
      return fmt::format("[{}]", fmt::join(list, ", "));
    }
  };
  return std::visit(Visitor{}, value);
}

Error bad_value(std::string_view name, std::string expected, const SettingValue& value) {
  return Error(fmt::format("bad value of `{}`", name), ErrorKind::kUsage)
      .expected(std::move(expected))
      .got(describe(value));
}

}  // namespace

Settings::Settings(const LayerSpec& spec, std::span<const std::string_view> known) : spec_(spec) {
  for (std::size_t i = 0; i < spec.settings.size(); ++i) {
    const auto& name = spec.settings[i].first;
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      const std::string near = suggestion(name, known);
      throw Error(fmt::format("unknown setting `{}`", name), ErrorKind::kUsage)
          .expected(known.empty() ? "no settings" : fmt::format("one of {}", fmt::join(known, ", ")))
          .hint(near.empty() ? "remove it" : near);
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (spec.settings[j].first == name) {
        throw Error(fmt::format("setting `{}` is given twice", name), ErrorKind::kUsage);
      }
    }
  }
}

const SettingValue* Settings::find(std::string_view name) const {
  for (const auto& [key, value] : spec_.settings) {
    if (key == name) return &value;
  }
  return nullptr;
}

void Settings::require(std::string_view name) const {
  if (!has(name)) {
    throw Error(fmt::format("{} needs `{}`", spec_.kind, name), ErrorKind::kUsage)
        .hint(fmt::format("add {} = ...", name));
  }
}

std::int64_t Settings::integer(std::string_view name, std::int64_t low, std::int64_t high) const {
  require(name);
  const auto& value = *find(name);
  const auto* number = std::get_if<std::int64_t>(&value);
  if (number == nullptr || *number < low || *number > high) {
    throw bad_value(name, fmt::format("an integer from {} to {}", low, high), value);
  }
  return *number;
}

std::int64_t Settings::integer_or(std::string_view name, std::int64_t fallback, std::int64_t low,
                                  std::int64_t high) const {
  return has(name) ? integer(name, low, high) : fallback;
}

double Settings::number(std::string_view name, double low, double high) const {
  require(name);
  const auto& value = *find(name);
  double number = 0;
  if (const auto* d = std::get_if<double>(&value)) {
    number = *d;
  } else if (const auto* i = std::get_if<std::int64_t>(&value)) {
    number = static_cast<double>(*i);
  } else {
    throw bad_value(name, "a number", value);
  }
  if (!(number >= low && number < high)) {
    throw bad_value(name, fmt::format("a number of at least {} and below {}", low, high), value);
  }
  return number;
}

double Settings::number_or(std::string_view name, double fallback, double low, double high) const {
  return has(name) ? number(name, low, high) : fallback;
}

std::vector<std::int64_t> Settings::integers_or(std::string_view name, std::vector<std::int64_t> fallback,
                                                std::int64_t low, std::int64_t high) const {
  const auto* value = find(name);
  if (value == nullptr) return fallback;
  const auto fits = [&](std::int64_t i) { return i >= low && i <= high; };
  const auto* list = std::get_if<std::vector<std::int64_t>>(value);
  if (list == nullptr || !std::all_of(list->begin(), list->end(), fits)) {
    throw bad_value(name, fmt::format("a list of integers from {} to {}", low, high), *value);
  }
  return *list;
}

bool Settings::flag_or(std::string_view name, bool fallback) const {
  const auto* value = find(name);
  if (value == nullptr) return fallback;
  const auto* flag = std::get_if<bool>(value);
  if (flag == nullptr) throw bad_value(name, "true or false", *value);
  return *flag;
}

std::string Settings::word_or(std::string_view name, std::string_view fallback,
                              std::span<const std::string_view> words) const {
  const auto* value = find(name);
  if (value == nullptr) return std::string(fallback);
  const auto* word = std::get_if<std::string>(value);
  if (word == nullptr || std::find(words.begin(), words.end(), *word) == words.end()) {
    const std::string near = word == nullptr ? "" : suggestion(*word, words);
    auto error = bad_value(name, fmt::format("one of {}", fmt::join(words, ", ")), *value);
    if (!near.empty()) throw std::move(error).hint(near);
    throw error;
  }
  return *word;
}

}  // namespace impart::nn

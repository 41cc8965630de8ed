#include "impart/core/setting_value.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "impart/core/error.hpp"

namespace impart {

namespace {

using Json = nlohmann::ordered_json;  // settings keep their order

struct ToJson {
  Json operator()(const OtherValue& /*value*/) const { return nullptr; }
  Json operator()(bool value) const { return value; }
  Json operator()(std::int64_t value) const { return value; }
  Json operator()(double value) const { return std::isfinite(value) ? Json(value) : Json(nullptr); }
  Json operator()(const std::string& value) const { return value; }
  Json operator()(const SettingArray& array) const {
    Json list = Json::array();
    for (const auto& element : array) list.push_back(std::visit(*this, element.value));
    return list;
  }
  Json operator()(const SettingTable& table) const {
    Json object = Json::object();
    for (const auto& [name, value] : table) object[name] = std::visit(*this, value.value);
    return object;
  }
};

// Files of others may nest deeper than a stack is.
constexpr int kDeepest = 64;

SettingValue from_json(const Json& json, int depth = 0) {
  if (depth > kDeepest)
    throw Error("settings in settings").expected(fmt::format("at most {} deep", kDeepest));
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_integer()) return json.get<std::int64_t>();
  if (json.is_number_float()) return json.get<double>();
  if (json.is_string()) return json.get<std::string>();
  if (json.is_array()) {
    SettingArray array;
    for (const auto& element : json) array.push_back(from_json(element, depth + 1));
    return array;
  }
  if (json.is_object()) {
    SettingTable table;
    for (const auto& [name, value] : json.items()) table.emplace_back(name, from_json(value, depth + 1));
    return table;
  }
  throw Error("a setting without a value").expected("a truth value, a number, text, an array or an object");
}

struct Describe {
  std::string operator()(const OtherValue& value) const { return value.what; }
  std::string operator()(bool value) const { return value ? "the boolean true" : "the boolean false"; }
  std::string operator()(std::int64_t value) const { return fmt::format("the integer {}", value); }
  std::string operator()(double value) const { return fmt::format("the number {}", value); }
  std::string operator()(const std::string& value) const { return fmt::format("the string \"{}\"", value); }
  std::string operator()(const SettingArray& /*array*/) const { return "an array"; }
  std::string operator()(const SettingTable& /*table*/) const { return "a table"; }
};

}  // namespace

bool operator==(const SettingValue& a, const SettingValue& b) { return a.value == b.value; }

double SettingValue::number() const {
  const auto* integer = as<std::int64_t>();
  return integer != nullptr ? static_cast<double>(*integer) : *as<double>();
}

std::string SettingValue::describe() const { return std::visit(Describe{}, value); }

const SettingValue* find_setting(const SettingTable& table, std::string_view name) noexcept {
  for (const auto& [key, value] : table) {
    if (key == name) return &value;
  }
  return nullptr;
}

void put_setting(SettingTable& table, std::string_view name, SettingValue value) {
  for (auto& [key, old] : table) {
    if (key != name) continue;
    old = std::move(value);
    return;
  }
  table.emplace_back(std::string(name), std::move(value));
}

std::string to_json(const SettingValue& value) { return std::visit(ToJson{}, value.value).dump(); }

SettingValue setting_from_json(std::string_view text) {
  try {
    return from_json(Json::parse(text));
  } catch (const nlohmann::json::exception& e) {
    throw Error("not JSON").got(e.what());
  }
}

}  // namespace impart

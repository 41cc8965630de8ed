// Settings: a layer's settings, read with their types and ranges.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "impart/nn/spec.hpp"

namespace impart::nn {

inline constexpr std::int64_t kMaxExtent = std::int64_t{1}
                                           << 20;  ///< of channels, features, height and width
inline constexpr std::int64_t kMaxKernel = 1024;

/// Reads from a LayerSpec, which must outlive it. Every getter throws Error (usage) for a wrong type or
/// range.
class Settings {
 public:
  /// Throws Error (usage) for a setting that is not among `known`, or given twice.
  Settings(const LayerSpec& spec, std::span<const std::string_view> known);

  [[nodiscard]] bool has(std::string_view name) const { return find(name) != nullptr; }
  /// An integer from `low` to `high`; missing is an error.
  [[nodiscard]] std::int64_t integer(std::string_view name, std::int64_t low, std::int64_t high) const;
  [[nodiscard]] std::int64_t integer_or(std::string_view name, std::int64_t fallback, std::int64_t low,
                                        std::int64_t high) const;
  /// A number in [low, high).
  [[nodiscard]] double number(std::string_view name, double low, double high) const;
  [[nodiscard]] double number_or(std::string_view name, double fallback, double low, double high) const;
  [[nodiscard]] std::vector<std::int64_t> integers_or(std::string_view name,
                                                      std::vector<std::int64_t> fallback, std::int64_t low,
                                                      std::int64_t high) const;
  [[nodiscard]] bool flag_or(std::string_view name, bool fallback) const;
  /// One of `words`.
  [[nodiscard]] std::string word_or(std::string_view name, std::string_view fallback,
                                    std::span<const std::string_view> words) const;

 private:
  [[nodiscard]] const SettingValue* find(std::string_view name) const;
  void require(std::string_view name) const;

  const LayerSpec& spec_;
};

}  // namespace impart::nn

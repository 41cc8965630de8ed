// Which parameters a group means, and how they are treated.
#include <fmt/format.h>

#include <algorithm>

#include "impart/train/optimizer.hpp"

namespace impart::train {

bool matches(std::string_view pattern, std::string_view name) {
  // Greedy, with one place to come back to: the last star.
  std::size_t p = 0;
  std::size_t n = 0;
  std::size_t star = std::string_view::npos;
  std::size_t resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

ParameterGroup group_of(std::span<const ParameterGroup> groups, std::string_view parameter) {
  ParameterGroup result;
  for (const auto& group : groups) {
    if (matches(group.pattern, parameter)) result = group;
  }
  return result;
}

std::vector<UnusedPattern> unused_patterns(std::span<const ParameterGroup> groups,
                                           const StateLayout& layout) {
  const auto entries = layout.entries();
  std::vector<UnusedPattern> unused;
  for (const auto& group : groups) {
    if (std::ranges::any_of(entries, [&](const auto& entry) { return matches(group.pattern, entry.name); }))
      continue;
    std::string names;
    for (const auto& entry : entries) names += (names.empty() ? "" : ", ") + entry.name;
    unused.push_back({group.frozen ? "freeze" : "groups",
                      fmt::format("'{}' matches no parameter's whole name, as 'conv1.*' would ({})",
                                  group.pattern, names)});
  }
  return unused;
}

}  // namespace impart::train

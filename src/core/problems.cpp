#include "impart/core/problems.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include "impart/core/printable.hpp"

namespace impart {

void Places::add(std::string path, Place place) {
  places_.insert_or_assign(std::move(path), std::move(place));
}

Place Places::find(std::string_view path) const {
  while (true) {
    if (const auto found = places_.find(path); found != places_.end()) return found->second;
    if (path.empty()) return {};
    const auto end = path.find_last_of(".[");
    path = path.substr(0, end == std::string_view::npos ? 0 : end);
  }
}

void Problems::add(const Places& places, std::string_view path, std::string_view text) {
  add(places.find(path), path.empty() ? std::string(text) : std::string(path) + ": " + std::string(text));
}

void Problems::add(Place place, std::string_view text) {
  const auto line = place.text.empty() ? std::string(text) : std::move(place.text) + ": " + std::string(text);
  found_.push_back({place.line, printable(line)});
}

std::vector<std::string> Problems::lines() const {
  auto sorted = found_;
  std::ranges::stable_sort(sorted, {}, &Problem::line);
  std::vector<std::string> texts;
  std::set<std::string> reported;
  for (auto& problem : sorted) {
    if (reported.insert(problem.text).second) texts.push_back(std::move(problem.text));
  }
  return texts;
}

}  // namespace impart

#include "impart/app/reference.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "impart/core/error.hpp"
#include "impart/core/suggest.hpp"

namespace impart::app {

namespace {

constexpr std::size_t kWidth = 110;  // of a terminal

/// `text` in lines of at most `width`, all but the first after `indent` spaces.
std::string wrapped(std::string_view text, std::size_t width, std::size_t indent) {
  std::string result;
  std::size_t used = 0;
  while (!text.empty()) {
    const auto end = std::min(text.find(' '), text.size());
    const auto word = text.substr(0, end);
    if (used > 0 && used + 1 + word.size() > width) {
      result += '\n' + std::string(indent, ' ');
      used = 0;
    }
    if (used > 0) result += ' ';
    result += word;
    used += word.size() + (used > 0 ? 1 : 0);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

/// What values a setting takes, in one cell.
std::string values_of(const SettingDoc& doc) {
  if (doc.range.empty()) return doc.type;
  return fmt::format("{}, {}", doc.type, doc.range);
}

std::string meaning_of(const SettingDoc& doc) {
  return doc.topic.empty() ? doc.text : fmt::format("{} (impart help {})", doc.text, doc.topic);
}

/// Name, default, values and meaning of each, in columns.
std::string table_of(const std::vector<SettingDoc>& settings) {
  if (settings.empty()) return "  no settings\n";
  std::size_t name = 4;
  std::size_t fallback = 7;
  std::size_t values = 6;
  constexpr std::size_t kMostValues = 36;
  for (const auto& doc : settings) {
    name = std::max(name, doc.key.size());
    fallback = std::max(fallback, std::min<std::size_t>(doc.fallback.size(), 20));
    values = std::max(values, std::min(values_of(doc).size(), kMostValues));
  }
  const auto indent = name + fallback + values + 8;
  auto text = fmt::format("  {:<{}}  {:<{}}  {:<{}}  {}\n", "name", name, "default", fallback, "values",
                          values, "meaning");
  for (const auto& doc : settings) {
    const auto meaning = wrapped(meaning_of(doc), std::max<std::size_t>(30, kWidth - indent), indent);
    auto cell = wrapped(values_of(doc), kMostValues, 2 + name + 2 + fallback + 2);
    const auto last = cell.rfind('\n');
    const auto width =
        last == std::string::npos ? cell.size() : cell.size() - last - 1 - (4 + name + fallback + 2);
    cell += std::string(values > width ? values - width : 0, ' ');
    text += fmt::format("  {:<{}}  {:<{}}  {}  {}\n", doc.key, name, doc.fallback, fallback, cell, meaning);
  }
  return text;
}

std::string text_of(const Topic& topic, const KindDoc& kind) {
  return fmt::format("{} {}: {}\n{}", topic.name, kind.name, kind.text, table_of(kind.settings));
}

std::string text_of(const Topic& topic) {
  auto text = fmt::format("{}: {}\n", topic.name, topic.text);
  if (!topic.settings.empty()) text += table_of(topic.settings);
  for (const auto& kind : topic.kinds) text += '\n' + text_of(topic, kind);
  return text;
}

std::string overview(const std::vector<Topic>& all) {
  std::string text =
      "impart help TOPIC tells the settings of everything in it, impart help KIND those of one kind.\n";
  for (const auto& topic : all) {
    text += fmt::format("\n{:<18} {}\n", topic.name, wrapped(topic.text, kWidth - 19, 19));
    if (topic.kinds.empty()) continue;
    std::string names;
    for (const auto& kind : topic.kinds) names += (names.empty() ? "" : ", ") + kind.name;
    text += fmt::format("{:<18} {}\n", "", wrapped(names, kWidth - 19, 19));
  }
  return text;
}

// '|' ends a cell of Markdown.
std::string cell(std::string_view text) {
  std::string safe;
  for (const char c : text) safe += c == '|' ? std::string("\\|") : std::string(1, c);
  return safe;
}

std::string markdown_of(const std::vector<SettingDoc>& settings) {
  if (settings.empty()) return "No settings.\n";
  std::string text = "| name | default | values | meaning |\n|---|---|---|---|\n";
  for (const auto& doc : settings) {
    auto meaning = cell(doc.text);
    if (!doc.topic.empty()) meaning += fmt::format(" (see [{}](#{}))", doc.topic, doc.topic);
    text +=
        fmt::format("| `{}` | {} | {} | {} |\n", doc.key, cell(doc.fallback), cell(values_of(doc)), meaning);
  }
  return text;
}

}  // namespace

std::string help(const std::string& word) {
  const auto all = topics();
  if (word.empty()) return overview(all);
  std::vector<std::string> known;
  std::string found;
  for (const auto& topic : all) {
    known.push_back(topic.name);
    if (topic.name == word) return text_of(topic);
    for (const auto& kind : topic.kinds) {
      known.push_back(kind.name);
      known.push_back(topic.name + '.' + kind.name);
      if (word != kind.name && word != known.back()) continue;
      if (!found.empty()) found += '\n';
      found += text_of(topic, kind);
      if (topic.settings.empty()) continue;
      found += fmt::format("\nand, as every {}:\n{}", topic.name, table_of(topic.settings));
    }
  }
  if (!found.empty()) return found;
  const std::vector<std::string_view> words(known.begin(), known.end());
  const auto near = suggestion(word, words);
  throw Error("there is no help on '" + word + "'", ErrorKind::kUsage)
      .hint(near.empty() ? "`impart help` lists what there is" : near);
}

std::string reference_page() {
  std::string page =
      "# Settings\n\n"
      "This page is written by `impart help --markdown`, from the program's own declarations; a test holds "
      "it\n"
      "against the program. `impart help TOPIC` prints the same in a terminal.\n";
  for (const auto& topic : topics()) {
    page += fmt::format("\n## {}\n\n{}.\n", topic.name, topic.text);
    if (!topic.settings.empty()) page += '\n' + markdown_of(topic.settings);
    for (const auto& kind : topic.kinds) {
      page += fmt::format("\n### {} {}\n\n{}.\n\n{}", topic.name, kind.name, kind.text,
                          markdown_of(kind.settings));
    }
  }
  return page;
}

}  // namespace impart::app

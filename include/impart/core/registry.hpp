// Registry: the kinds of something, by name: each a factory that reads its own settings.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/core/settings.hpp"
#include "impart/core/suggest.hpp"

namespace impart {

/// A kind as the reference tells of it.
struct KindDoc {
  std::string name;
  std::string text;
  std::vector<SettingDoc> settings;
};

/// A visible table, name -> factory. A new kind is one file, and one line in its table:
///
///   constexpr Registry<std::unique_ptr<Schedule>>::Entry kSchedules[] = {
///       {"cosine", "down along half a cosine", make_cosine}, ...};
///   const Registry<std::unique_ptr<Schedule>>& schedules() {
///     static const Registry<std::unique_ptr<Schedule>> registry("schedule", kSchedules);
///     return registry;
///   }
///
/// A factory must do with defaults alone (Settings::is_documenting): what it returns then is thrown away.
template <class Made, class... Context>
class Registry {
 public:
  struct Entry {
    std::string_view name;
    std::string_view text;  ///< one line: what it does
    Made (*make)(Settings& settings, Context... context);
  };

  /// `topic`: what the kinds are kinds of, as `impart help` calls it: "optimizer". `entries` outlives this.
  constexpr Registry(std::string_view topic, std::span<const Entry> entries)
      : topic_(topic), entries_(entries) {}

  [[nodiscard]] std::string_view topic() const noexcept { return topic_; }
  [[nodiscard]] std::span<const Entry> entries() const noexcept { return entries_; }
  [[nodiscard]] std::vector<std::string_view> names() const {
    std::vector<std::string_view> names;
    for (const auto& entry : entries_) names.push_back(entry.name);
    return names;
  }
  [[nodiscard]] const Entry* find(std::string_view name) const noexcept {
    for (const auto& entry : entries_) {
      if (entry.name == name) return &entry;
    }
    return nullptr;
  }
  /// Throws Error (usage), with the nearest name, when there is none of that name.
  [[nodiscard]] const Entry& get(std::string_view name) const {
    if (const auto* entry = find(name)) return *entry;
    const auto known = names();
    std::string list;
    for (const auto each : known) list += (list.empty() ? "" : ", ") + std::string(each);
    auto error = Error("unknown " + std::string(topic_) + " '" + std::string(name) + "'", ErrorKind::kUsage)
                     .expected("one of " + list);
    const auto near = suggestion(name, known);
    if (!near.empty()) throw std::move(error).hint(near);
    throw error;
  }

  /// Makes what `settings`, the table of one, says in its `kind`; of `fallback` when it does not. Empty
  /// `fallback`: it must. A wrong kind is a problem, and the fallback (or the first) with its defaults stands in.
  Made make(Settings& settings, std::string_view fallback, Context... context) const {
    std::size_t chosen = 0;
    const auto known = names();
    for (std::size_t i = 0; i < known.size(); ++i) {
      if (known[i] == fallback) chosen = i;
    }
    const bool is_there = settings.has("kind");
    if (!is_there && fallback.empty() && !settings.is_documenting()) settings.missing("kind");
    const bool good = settings.choose_word("kind", chosen, known, "which one");
    if (good && (is_there || !fallback.empty())) return entries_[chosen].make(settings, context...);
    settings.rest();  // of an unknown kind: nobody can say what is wrong with its settings
    auto none = Settings::defaults();
    return entries_[chosen].make(none, context...);
  }

  /// The same of `key` of `parent`, which holds a table, or the kind's name alone. Reads it whole.
  Made read(Settings& parent, std::string_view key, std::string_view fallback, std::string_view text,
            Context... context) const {
    if (parent.is_documenting()) {
      describe(parent, key, fallback, text);
      auto none = Settings::defaults();
      return make(none, fallback.empty() ? entries_[0].name : fallback, context...);
    }
    auto table = parent.kind_table(key);
    auto made = make(table, fallback, context...);
    table.finish();
    return made;
  }
  /// A list of kinds, by their tables or their names alone, in their order: [ "flip", { kind = "crop" } ].
  std::vector<Made> read_list(Settings& parent, std::string_view key, std::string_view text,
                              Context... context) const {
    std::vector<Made> list;
    if (parent.is_documenting()) {
      parent.document(
          {std::string(key), "list of tables or names", "", "[]", std::string(text), std::string(topic_)});
      return list;
    }
    for (auto& table : parent.kind_tables(key)) {
      const auto before = parent.problem_count();
      auto made = make(table, "", context...);
      table.finish();
      if (parent.problem_count() == before) list.push_back(std::move(made));
    }
    return list;
  }

  /// The reference: every kind with its settings.
  [[nodiscard]] std::vector<KindDoc> document(Context... context) const {
    std::vector<KindDoc> docs;
    for (const auto& entry : entries_) {
      docs.push_back({std::string(entry.name), std::string(entry.text), {}});
      auto settings = Settings::defaults(&docs.back().settings);
      entry.make(settings, context...);
    }
    return docs;
  }

 private:
  void describe(Settings& parent, std::string_view key, std::string_view fallback,
                std::string_view text) const {
    std::string list;
    for (const auto& entry : entries_) list += (list.empty() ? "one of " : ", ") + std::string(entry.name);
    parent.document({std::string(key), list, "",
                     fallback.empty() ? "required" : '"' + std::string(fallback) + '"', std::string(text),
                     std::string(topic_)});
  }

  std::string_view topic_;
  std::span<const Entry> entries_;
};

}  // namespace impart

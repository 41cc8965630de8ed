// The reference of all settings, from their own declarations.
#pragma once

#include <string>
#include <vector>

#include "impart/core/registry.hpp"
#include "impart/core/settings.hpp"

namespace impart::app {

/// What one word of `impart help` tells about: the kinds of something, and what all of them have alike.
struct Topic {
  std::string name;                  ///< "optimizer"
  std::string text;                  ///< where a deck says it
  std::vector<SettingDoc> settings;  ///< of every kind
  std::vector<KindDoc> kinds;
};

/// All topics, in the order of the page.
std::vector<Topic> topics();

/// What `impart help WORD` prints: all of a topic, or the kinds of that name: "adam", or "optimizer.adam". Without
/// a word: what there is. Throws Error (usage), with the nearest, for a word that is neither.
std::string help(const std::string& word);

/// The same as one page of Markdown: inputs/README.md.
std::string reference_page();

}  // namespace impart::app

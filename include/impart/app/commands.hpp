// What the commands beside `run` do, and what all of them need.
#pragma once

#include <filesystem>
#include <string>

#include "impart/app/options.hpp"
#include "impart/comm/comm.hpp"
#include "impart/core/problems.hpp"
#include "impart/stages/deck.hpp"

namespace impart::app {

/// The text of a deck. Throws Error (usage) when there is none.
std::string read_deck_text(const std::filesystem::path& path);
/// The same, read by the root and given to all. Collective.
std::string read_deck_text(const comm::Comm& comm, const std::filesystem::path& path);

/// Reads the deck of the command line with its changes, --set and --output; `text` is what the file holds.
stages::Deck read_deck(const Options& options, const std::string& text, Problems& problems);

/// Trains a model on random samples, as the Trainer does, and returns what to print: a table, or the JSON
/// object of DESIGN.md, section 4. Collective; the root's text counts.
std::string bench(const comm::Comm& comm, const Options& options);

/// Writes class and probabilities of each sample of a dataset, and its label, where it has one. Returns a
/// line that says so. Collective; the root's text counts.
std::string predict(const comm::Comm& comm, const Options& options);

}  // namespace impart::app

// What the commands beside `run` do, and what all of them need.
#pragma once

#include <filesystem>
#include <string>

#include "impart/comm/comm.hpp"
#include "impart/stages/options.hpp"

namespace impart::stages {

/// The text of a deck. Throws Error (usage) when there is none.
std::string read_deck_text(const std::filesystem::path& path);
/// The same, read by the root and given to all. Collective.
std::string read_deck_text(const comm::Comm& comm, const std::filesystem::path& path);

/// Trains a model on random samples, as the Trainer does, and returns what to print: a table, or the JSON
/// object of DESIGN.md, section 4. Collective; the root's text counts.
std::string bench(const comm::Comm& comm, const Options& options);

/// Writes class and probabilities of each sample of a dataset. Collective.
void predict(const comm::Comm& comm, const Options& options);

/// Name and version of the program and of its libraries.
std::string version_line();

}  // namespace impart::stages

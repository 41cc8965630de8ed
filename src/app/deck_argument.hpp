// Arguments of the form DECK:NAME.
#pragma once

#include <string>
#include <utility>

#include "impart/comm/comm.hpp"
#include "impart/nn/spec.hpp"
#include "impart/stages/deck.hpp"

namespace impart::app {

/// Reads the deck of an argument "DECK:NAME"; returns it and the name. Throws Error (usage), on all ranks,
/// with the first problem of the deck. Collective.
std::pair<stages::Deck, std::string> deck_argument(const comm::Comm& comm, const std::string& argument,
                                                   const char* option);

/// The model of the zoo, or of "DECK:MODEL". Collective.
nn::ModelSpec model_argument(const comm::Comm& comm, const std::string& argument);

}  // namespace impart::app

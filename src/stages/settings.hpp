// Reads the settings of a stage, one function for each kind; kinds.cpp has the table. `deck` is what has been
// read so far: all but the stages from this one on.
#pragma once

#include "impart/stages/deck.hpp"
#include "stages/toml_reader.hpp"

namespace impart::stages {

AnySettings read_train(TableReader& table, const Deck& deck);
AnySettings read_transfer(TableReader& table, const Deck& deck);
AnySettings read_merge(TableReader& table, const Deck& deck);
AnySettings read_ensemble(TableReader& table, const Deck& deck);
AnySettings read_distil(TableReader& table, const Deck& deck);
AnySettings read_federate(TableReader& table, const Deck& deck);
AnySettings read_evaluate(TableReader& table, const Deck& deck);

}  // namespace impart::stages

// Reads the settings of a stage, one function for each kind; kinds.cpp has the table.
#pragma once

#include "impart/stages/deck.hpp"
#include "stages/toml_reader.hpp"

namespace impart::stages {

AnySettings read_train(TableReader& table, const RunSettings& run);
AnySettings read_transfer(TableReader& table, const RunSettings& run);
AnySettings read_merge(TableReader& table, const RunSettings& run);
AnySettings read_ensemble(TableReader& table, const RunSettings& run);
AnySettings read_distil(TableReader& table, const RunSettings& run);
AnySettings read_federate(TableReader& table, const RunSettings& run);
AnySettings read_evaluate(TableReader& table, const RunSettings& run);

}  // namespace impart::stages

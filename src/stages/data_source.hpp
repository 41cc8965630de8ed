// The files of a dataset, by its settings.
#pragma once

#include <memory>

#include "impart/io/sample_source.hpp"
#include "impart/stages/deck.hpp"

namespace impart::stages {

/// Opens the files: headers and sizes are checked, nothing is read. Throws Error.
std::unique_ptr<io::SampleSource> open_source(const DatasetSettings& settings);

}  // namespace impart::stages

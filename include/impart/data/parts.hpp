// DataParts: a data set as its settings say, ready for a network.
#pragma once

#include <array>
#include <string>

#include "impart/comm/comm.hpp"
#include "impart/data/dataset.hpp"
#include "impart/data/dataset_settings.hpp"

namespace impart::data {

/// A part without samples is null.
struct DataParts {
  std::array<DatasetPtr, 3> parts;  ///< train, validation, test
  DatasetPtr all;
  std::string fingerprint;  ///< of all samples as they are stored

  [[nodiscard]] const DatasetPtr& part(Part which) const {
    return which == Part::kAll ? all : parts[static_cast<std::size_t>(which)];
  }
  /// Of every part: what a model that is trained on one remembers.
  [[nodiscard]] const Encoding& encoding() const { return *all->encoding(); }
};

/// Reads, splits, limits, resizes and encodes. `what`: for messages, "dataset.mnist". Collective; all ranks
/// throw when one fails.
DataParts read_parts(const comm::Comm& comm, const std::string& what, const DatasetSettings& settings);

}  // namespace impart::data

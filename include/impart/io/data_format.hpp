// DataFormat: where the samples of a data set are, and how they are stored, as its settings say; nothing is
// opened yet.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "impart/core/registry.hpp"
#include "impart/core/settings.hpp"
#include "impart/io/sample_source.hpp"

namespace impart::io {

/// What a file's name in the settings stands for: of a deck, a path relative to the deck's directory.
using PathResolver = std::function<std::filesystem::path(const std::string& file)>;

/// What holds for a data set before its files are seen. All but `labels` and `names_classes` are those of
/// images and rows; a format for something else says so.
struct DataTraits {
  bool labels = true;          ///< the samples have labels
  bool names_classes = false;  ///< how many classes there are is known: `classes` need not be set
  /// The values are indices of a vocabulary, and no quantities: there is nothing to scale, to normalise or to
  /// resize, and samples have no class of which there could be a limit.
  bool text = false;
  /// The samples' order has a meaning: the parts of a split are runs of samples, with so many left out
  /// between two of them, because samples nearer to each other overlap. Nothing: dealt by their digests.
  std::optional<std::int64_t> gap = {};
};

/// A kind of one file: its reader (SampleSource), its settings, its traits. Immutable.
class DataFormat {
 public:
  virtual ~DataFormat() = default;

  [[nodiscard]] virtual DataTraits traits() const = 0;
  /// All files that are read.
  [[nodiscard]] virtual std::vector<std::filesystem::path> files() const = 0;
  /// Opens the files and checks their headers. Throws Error, which names the file, for whatever is wrong with
  /// them, also a path that is a directory or a loop of links. REQUIRES: the settings had no problem.
  [[nodiscard]] std::unique_ptr<SampleSource> open() const;

 private:
  [[nodiscard]] virtual std::unique_ptr<SampleSource> open_source() const = 0;
};

/// What a stored 1 is worth where the settings do not say it: 1/255 for the bytes of images and rows.
double default_scale(const DataTraits& traits, ElementType element);

using DataFormatPtr = std::shared_ptr<const DataFormat>;
using DataFormats = Registry<DataFormatPtr, const PathResolver&>;

/// idx, csv, cifar, hdf5, text.
const DataFormats& data_formats();

}  // namespace impart::io

// SampleSource: labelled samples in a file, checked before anything is allocated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "impart/core/tensor.hpp"

namespace impart::io {

enum class ElementType : std::uint8_t { kUint8, kFloat32 };

/// Bytes of one element.
std::size_t element_size(ElementType type);

struct SampleInfo {
  std::int64_t samples = 0;
  Shape shape;  ///< of one sample: (C, H, W) for images, (features) for rows
  ElementType element = ElementType::kFloat32;
  std::int64_t labels_per_sample = 1;  ///< 0: there are no labels
  std::string vocabulary = {};         ///< of a text: its distinct characters, in the order of their indices

  /// Labels of all samples together.
  [[nodiscard]] std::int64_t labels() const { return samples * labels_per_sample; }
  /// Bytes of all samples together.
  [[nodiscard]] std::size_t bytes() const;
};

/// A file (or a pair of files) of samples. Opening reads and checks headers and sizes; `read` fills memory
/// that the caller owns, streaming, so that nothing but that memory grows with the data. Not thread-safe.
class SampleSource {
 public:
  virtual ~SampleSource() = default;
  [[nodiscard]] virtual const SampleInfo& info() const = 0;
  /// REQUIRES: samples.size() == info().bytes(), labels.size() == info().labels(). Row-major, samples
  /// outermost. Throws Error on truncated or surplus data, text where a number belongs, or a label that is no
  /// whole number >= 0; labels are checked against the number of classes by the caller.
  virtual void read(std::span<std::byte> samples, std::span<std::int32_t> labels) = 0;
};

/// MNIST's format, plain or .gz: one file of images (n, rows, columns) of unsigned bytes, one of labels (n).
/// The samples' shape is (1, rows, columns). `labels` may be empty: the samples have none.
std::unique_ptr<SampleSource> open_idx(const std::filesystem::path& images,
                                       const std::filesystem::path& labels);

struct CsvOptions {
  bool header = false;
  std::string
      label;    ///< column by name (with a header) or index from 0; negative counts from the end; empty: none
  Shape shape;  ///< of one sample; empty: (columns beside the label)
  char separator = ',';
};
/// Numbers as text (RFC 4180: quoted fields, doubled quotes, CRLF), plain or .gz; one label column.
std::unique_ptr<SampleSource> open_csv(const std::filesystem::path& file, const CsvOptions& options);

/// CIFAR-10's binary records, plain or .gz: a label byte, then `shape` planar bytes. Several files are one
/// set.
std::unique_ptr<SampleSource> open_cifar(const std::vector<std::filesystem::path>& files,
                                         const Shape& shape = Shape{3, 32, 32});

struct TextOptions {
  std::int64_t context = 64;  ///< characters of a sample
  std::int64_t stride = 0;    ///< characters from one sample's begin to the next; 0: `context`, no overlap
  std::filesystem::path vocabulary =
      {};  ///< a file whose characters are the vocabulary; empty: the text's own
};
/// A text, plain or .gz, as windows for a model of the next character: a character is a byte, its index its
/// place among the vocabulary's distinct bytes in ascending order. A sample is `context` indices in a row,
/// its labels are the `context` that follow each of them. Throws Error on a character that is not in the
/// vocabulary.
std::unique_ptr<SampleSource> open_text(const std::filesystem::path& file, const TextOptions& options);

/// Two datasets of an HDF5 file: `samples` (n, ...) of any number type, `labels` (n) of any integer type; or
/// one, when `labels` is empty.
/// Unsigned bytes stay bytes, all else becomes float32. `shape` (of one sample) empty: as in the file.
std::unique_ptr<SampleSource> open_hdf5(const std::filesystem::path& file, const std::string& samples,
                                        const std::string& labels, const Shape& shape = {});

}  // namespace impart::io

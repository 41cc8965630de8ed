// Dataset: labelled samples, in shared memory or as a decorator over another dataset.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/core/digest.hpp"
#include "impart/core/tensor.hpp"
#include "impart/io/sample_source.hpp"

namespace impart::data {

/// Values times `scale`, then (x - mean[c]) / deviation[c] for channel c (the first extent of an image's
/// shape; rows of features have one mean and one deviation). Empty `mean`: only the scale.
struct Normalisation {
  double scale = 1.0;  ///< what a stored 1 is worth: of the dataset, as 1/255 for bytes
  std::vector<double> mean;
  std::vector<double> deviation;

  friend bool operator==(const Normalisation&, const Normalisation&) = default;
};

/// How stored samples become what a network takes. A model remembers that of the data it was trained on.
struct Encoding {
  Normalisation normalisation;
  /// Of a text: the characters whose indices samples and labels hold. Empty: these are no text.
  std::string vocabulary = {};

  friend bool operator==(const Encoding&, const Encoding&) = default;
};

/// `size()` samples of one shape, with labels. Immutable, so that any number of threads may read one.
class Dataset {
 public:
  virtual ~Dataset() = default;

  [[nodiscard]] virtual std::int64_t size() const = 0;
  [[nodiscard]] virtual const Shape& sample_shape() const = 0;
  [[nodiscard]] virtual int classes() const = 0;
  /// Sample `i` as float32, row-major. REQUIRES: out.size() == sample_shape().elements().
  virtual void get(std::int64_t i, std::span<float> out) const = 0;
  /// The label of sample `i`; the first of several. REQUIRES: there are labels.
  [[nodiscard]] virtual std::int32_t label(std::int64_t i) const = 0;
  /// Of each sample: more than one for a sequence, where each of its places has one; 0 without labels.
  [[nodiscard]] virtual std::int64_t labels_per_sample() const { return 1; }
  /// All labels of sample `i`. REQUIRES: out.size() == labels_per_sample().
  virtual void labels(std::int64_t i, std::span<std::int32_t> out) const { out.front() = label(i); }
  /// The sample's place in its file: keys random draws, whatever subset the sample is in.
  [[nodiscard]] virtual std::uint64_t id(std::int64_t i) const = 0;
  /// Of the sample as stored (bytes and label): decides its part of a split.
  [[nodiscard]] virtual const Digest& digest(std::int64_t i) const = 0;
  /// How `get` makes its values of those that are stored; null when it gives them as they are.
  [[nodiscard]] virtual const Encoding* encoding() const { return nullptr; }
  /// Sample `i` before its encoding. REQUIRES: as `get`.
  virtual void get_stored(std::int64_t i, std::span<float> out) const { get(i, out); }
};

using DatasetPtr = std::shared_ptr<const Dataset>;

/// Reads `source` into memory that the ranks of a node share. Collective over `comm`; all ranks throw when
/// one fails. `name` is for messages. Throws Error on a label outside 0 to classes-1.
DatasetPtr read_dataset(const comm::Comm& comm, io::SampleSource& source, const std::string& name,
                        int classes);

/// The samples `indices` of `base`, in that order.
DatasetPtr subset(DatasetPtr base, std::vector<std::int64_t> indices);

/// Images (C, H, W) resized to (C, height, width): bilinear, with pixel centres at half-integers (as
/// PyTorch's `interpolate(align_corners=False)`).
DatasetPtr resize(DatasetPtr base, std::int64_t height, std::int64_t width);

/// Channels of a sample that have a mean each: those of an image (C, H, W), and one of anything else.
std::int64_t channels_of(const Shape& sample);

/// The samples of `base`, encoded. Throws Error when means and deviations are not one for each channel.
DatasetPtr encode(DatasetPtr base, Encoding encoding);

/// `dataset` for a model that was trained on data of the encoding `wanted`: with its mean and deviation in
/// place of the dataset's own, but with the dataset's scale, which belongs to how its numbers are stored. A
/// text's samples and labels become indices of the model's vocabulary. Throws as `encode` does, and Error
/// when the model knows no text or has not all of the text's characters.
DatasetPtr encoded_as(const DatasetPtr& dataset, const Encoding& wanted);

/// Mean and standard deviation of each channel of `scale` times `dataset`, the same bits on any number of
/// ranks: each rank sums a part in fixed blocks, and the blocks are added in their order. Collective. A
/// channel that does not vary has deviation 1.
Normalisation channel_statistics(const comm::Comm& comm, const Dataset& dataset, double scale);

/// Digest of all samples and labels in order.
Digest fingerprint(const Dataset& dataset);

}  // namespace impart::data

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

/// `size()` samples of one shape, with labels. Immutable, so that any number of threads may read one.
class Dataset {
 public:
  virtual ~Dataset() = default;

  [[nodiscard]] virtual std::int64_t size() const = 0;
  [[nodiscard]] virtual const Shape& sample_shape() const = 0;
  [[nodiscard]] virtual int classes() const = 0;
  /// Sample `i` as float32, row-major. REQUIRES: out.size() == sample_shape().elements().
  virtual void get(std::int64_t i, std::span<float> out) const = 0;
  [[nodiscard]] virtual std::int32_t label(std::int64_t i) const = 0;
  /// The sample's place in its file: keys random draws, whatever subset the sample is in.
  [[nodiscard]] virtual std::uint64_t id(std::int64_t i) const = 0;
  /// Of the sample as stored (bytes and label): decides its part of a split.
  [[nodiscard]] virtual const Digest& digest(std::int64_t i) const = 0;
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

/// Values times `scale`, then (x - mean[c]) / deviation[c] for channel c (the first extent of the sample's
/// shape; rows of features have one mean and deviation each). Empty `mean`: only the scale.
struct Normalisation {
  double scale = 1.0;
  std::vector<double> mean;
  std::vector<double> deviation;
};
DatasetPtr normalise(DatasetPtr base, Normalisation normalisation);

/// Mean and standard deviation of each channel of `scale` times `dataset`, the same bits on any number of
/// ranks: each rank sums a part in fixed blocks, and the blocks are added in their order. Collective. A
/// channel that does not vary has deviation 1.
Normalisation channel_statistics(const comm::Comm& comm, const Dataset& dataset, double scale);

/// Digest of all samples and labels in order.
Digest fingerprint(const Dataset& dataset);

}  // namespace impart::data

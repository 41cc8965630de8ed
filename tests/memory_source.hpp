// A SampleSource in memory, for tests: made-up samples whose class can be learnt.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "impart/core/rng.hpp"
#include "impart/data/dataset.hpp"
#include "impart/io/sample_source.hpp"

namespace impart::testing_support {

class MemorySource final : public io::SampleSource {
 public:
  MemorySource(Shape shape, std::vector<float> values, std::vector<std::int32_t> labels)
      : info_{static_cast<std::int64_t>(labels.size()), std::move(shape), io::ElementType::kFloat32},
        values_(std::move(values)),
        labels_(std::move(labels)) {}

  [[nodiscard]] const io::SampleInfo& info() const override { return info_; }
  void read(std::span<std::byte> samples, std::span<std::int32_t> labels) override {
    std::memcpy(samples.data(), values_.data(), samples.size());
    std::copy(labels_.begin(), labels_.end(), labels.begin());
  }

 private:
  io::SampleInfo info_;
  std::vector<float> values_;
  std::vector<std::int32_t> labels_;
};

/// `n` samples: a pattern of the class, and noise.
inline MemorySource made_up(std::int64_t n, const Shape& shape, int classes, std::uint64_t seed) {
  const auto elements = static_cast<std::size_t>(shape.elements());
  std::vector<float> values;
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto label = static_cast<std::int32_t>(i % classes);
    labels.push_back(label);
    Rng pattern(seed, "pattern", static_cast<std::uint64_t>(label));
    Rng noise(seed, "noise", static_cast<std::uint64_t>(i));
    for (std::size_t k = 0; k < elements; ++k) {
      values.push_back(static_cast<float>(pattern.normal() + 0.7 * noise.normal()));
    }
  }
  return {shape, std::move(values), std::move(labels)};
}

/// Sequences of `length` indices below `classes`, with as many labels: each place's label is the next place's
/// index.
class SequenceSource final : public io::SampleSource {
 public:
  SequenceSource(std::int64_t n, std::int64_t length, int classes) : classes_(classes) {
    info_.samples = n;
    info_.shape = Shape{length};
    info_.labels_per_sample = length;
  }

  [[nodiscard]] const io::SampleInfo& info() const override { return info_; }
  void read(std::span<std::byte> samples, std::span<std::int32_t> labels) override {
    std::vector<float> values;
    for (std::size_t i = 0; i < labels.size(); ++i) {
      const auto index = static_cast<std::int32_t>((i * i + i / 7) % static_cast<std::size_t>(classes_));
      values.push_back(static_cast<float>(index));
      labels[i == 0 ? labels.size() - 1 : i - 1] = index;
    }
    std::memcpy(samples.data(), values.data(), samples.size());
  }

 private:
  io::SampleInfo info_;
  int classes_;
};

inline data::DatasetPtr made_up_sequences(const comm::Comm& comm, std::int64_t n, std::int64_t length,
                                          int classes) {
  SequenceSource source(n, length, classes);
  return data::read_dataset(comm, source, "sequences", classes);
}

inline data::DatasetPtr made_up_dataset(const comm::Comm& comm, std::int64_t n, const Shape& shape,
                                        int classes, std::uint64_t seed = 1) {
  auto source = made_up(n, shape, classes, seed);
  return data::read_dataset(comm, source, "made up", classes);
}

}  // namespace impart::testing_support

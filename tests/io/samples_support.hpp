// Reads all of a SampleSource, as a data set would.
#pragma once

#include <cstring>
#include <vector>

#include "impart/io/sample_source.hpp"
#include "io/support.hpp"

namespace impart::io {

struct Samples {
  SampleInfo info;
  std::vector<std::byte> bytes;
  std::vector<std::int32_t> labels;

  [[nodiscard]] int byte(std::size_t i) const { return std::to_integer<int>(bytes.at(i)); }
  [[nodiscard]] float number(std::size_t i) const {
    float value = 0;
    std::memcpy(&value, &bytes.at(i * sizeof value), sizeof value);
    return value;
  }
};

inline Samples read_all(SampleSource& source) {
  Samples samples{source.info(), {}, {}};
  samples.bytes.resize(source.info().bytes());
  samples.labels.resize(static_cast<std::size_t>(source.info().labels()));
  source.read(samples.bytes, samples.labels);
  return samples;
}

inline std::filesystem::path shipped_data(const std::string& name) {
  return std::filesystem::path(IMPART_SOURCE_DIR) / "inputs/data" / name;
}
inline std::filesystem::path shared_data(const std::string& name) {
  return std::filesystem::path(IMPART_SHARED_DATA) / name;
}

}  // namespace impart::io

/// Skips the test, one of the suite SharedData, when a file of the shared data is absent.
#define IMPART_NEEDS_DATA(name)                                \
  if (!std::filesystem::exists(impart::io::shared_data(name))) \
  GTEST_SKIP() << impart::io::shared_data(name)                \
               << " is absent: set IMPART_SHARED_DATA to a directory that has it"

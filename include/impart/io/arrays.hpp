// Plain HDF5 files of named arrays: predictions, for whoever reads them with h5py.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <variant>

#include "impart/core/tensor.hpp"

namespace impart::io {

/// One dataset of the file. Values are row-major, as many as `shape` says.
struct NamedArray {
  std::string name;
  Shape shape;
  std::variant<std::span<const float>, std::span<const std::int32_t>> values;
};

/// Writes the file whole, or not at all. Throws Error, at `path`.
void write_arrays(const std::filesystem::path& path, std::span<const NamedArray> arrays);

}  // namespace impart::io

// Reference values that a Python script has written: a sequence of a line "name count" and `count` values.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace impart::testing_support {

/// The little-endian float64 values of one file, by name.
inline std::map<std::string, std::vector<double>> read_records(const std::filesystem::path& path) {
  std::map<std::string, std::vector<double>> records;
  std::ifstream file(path, std::ios::binary);
  std::string name;
  std::size_t count = 0;
  while (file >> name >> count) {
    file.get();  // the end of the line
    auto& values = records[name];
    values.resize(count);
    file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(double)));
    if (!file) throw std::runtime_error(path.string() + " ends within '" + name + "'");
  }
  return records;
}

inline std::vector<float> floats(const std::vector<double>& values) { return {values.begin(), values.end()}; }
inline std::vector<std::int32_t> integers(const std::vector<double>& values) {
  std::vector<std::int32_t> result;
  for (const double value : values) result.push_back(static_cast<std::int32_t>(value));
  return result;
}

}  // namespace impart::testing_support

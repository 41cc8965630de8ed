#include "impart/io/data_format.hpp"

#include "impart/core/error.hpp"
#include "io/byte_stream.hpp"
#include "io/formats/formats.hpp"

namespace impart::io {

namespace {

namespace fs = std::filesystem;

constexpr DataFormats::Entry kFormats[] = {
    {"idx", "MNIST's: a file of images, one of their labels; plain or .gz", make_idx},
    {"csv", "numbers as text, a row a sample; plain or .gz", make_csv},
    {"cifar", "CIFAR's binary records: a label's byte, then an image's; plain or .gz", make_cifar},
    {"hdf5", "two datasets of an HDF5 file: samples and labels", make_hdf5},
    {"text", "a text as windows, for models of the next character; plain or .gz", make_text},
};

}  // namespace

const DataFormats& data_formats() {
  static const DataFormats registry("dataset", kFormats);
  return registry;
}

std::unique_ptr<SampleSource> DataFormat::open() const {
  // Each reader would tell of a path that leads nowhere in words of its own, one of them in HDF5's.
  for (const auto& file : files()) const ByteStream regular(file);
  try {
    return open_source();
  } catch (const fs::filesystem_error& e) {
    throw Error("cannot read the file").at(e.path1().string()).got(e.code().message());
  }
}

double default_scale(const DataTraits& traits, ElementType element) {
  return element == ElementType::kUint8 && !traits.text ? 1.0 / 255.0 : 1.0;
}

fs::path read_file(Settings& settings, std::string_view key, const PathResolver& resolve,
                   std::string_view text) {
  std::string file;
  settings.read(key, file, text);
  return file.empty() ? fs::path() : resolve(file);
}

fs::path require_file(Settings& settings, std::string_view key, const PathResolver& resolve,
                      std::string_view text) {
  const bool there = settings.has(key);
  const auto before = settings.problem_count();
  auto file = read_file(settings, key, resolve, text);
  if (!there) {
    settings.missing(key);
  } else if (file.empty() && settings.problem_count() == before) {
    settings.problem(key, "expected the path of a file, got \"\"");
  }
  return file;
}

void read_shape(Settings& settings, Shape& shape) {
  settings.read("shape", shape, "of one sample; empty: as the file has it");
}

}  // namespace impart::io

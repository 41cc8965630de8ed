#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "impart/core/error.hpp"
#include "io/byte_stream.hpp"
#include "io/formats/formats.hpp"
#include "io/samples.hpp"

namespace impart::io {

namespace {

namespace fs = std::filesystem;

// Bytes of the file when unpacked. The length that a gzip file states is neither checked by anything nor
// right for more than one member, so a packed file is unpacked once, into nothing.
std::uintmax_t unpacked_size(const fs::path& path) {
  ByteStream stream(path);
  if (!stream.is_packed()) return stream.most_bytes();
  std::vector<std::byte> block(256 * 1024);
  std::uintmax_t size = 0;
  while (const auto got = stream.read_some(block)) size += got;
  return size;
}

class CifarSource : public SampleSource {
 public:
  CifarSource(std::vector<fs::path> files, const Shape& shape) : files_(std::move(files)) {
    if (files_.empty()) throw Error("a CIFAR data set needs at least one file");
    require_extents(shape, files_.front().string());
    info_.shape = shape;
    info_.element = ElementType::kUint8;
    const auto record = 1 + static_cast<std::uintmax_t>(shape.elements());
    for (const auto& file : files_) {
      const auto size = unpacked_size(file);
      if (size == 0 || size % record != 0) {
        throw Error("the file does not consist of whole CIFAR records")
            .at(file.string())
            .expected(fmt::format("a multiple of {} bytes (a label and {})", record, shape.str()))
            .got(std::to_string(size));
      }
      counts_.push_back(static_cast<std::int64_t>(size / record));
      info_.samples += counts_.back();
    }
  }

  [[nodiscard]] const SampleInfo& info() const override { return info_; }

  void read(std::span<std::byte> samples, std::span<std::int32_t> labels) override {
    require_room(info_, samples, labels);
    const auto size = static_cast<std::size_t>(info_.shape.elements());
    std::vector<std::byte> record(1 + size);
    std::size_t done = 0;
    for (std::size_t i = 0; i < files_.size(); ++i) {
      ByteStream stream(files_[i]);
      for (std::int64_t n = 0; n < counts_[i]; ++n, ++done) {
        stream.read(record, "records");
        labels[done] = std::to_integer<std::int32_t>(record[0]);
        std::copy(record.begin() + 1, record.end(),
                  samples.begin() + static_cast<std::ptrdiff_t>(done * size));
      }
      stream.expect_end("last record");
    }
  }

 private:
  std::vector<fs::path> files_;
  std::vector<std::int64_t> counts_;
  SampleInfo info_;
};

class Cifar final : public DataFormat {
 public:
  Cifar(Settings& settings, const PathResolver& resolve) {
    std::vector<std::string> files;
    if (settings.require("files", files, "the files, which are one set") && files.empty()) {
      settings.problem("files", "expected at least 1, got none");
    }
    for (const auto& file : files) files_.push_back(resolve(file));
    settings.read("shape", shape_, "of one sample: channels, height, width");
  }

  [[nodiscard]] DataTraits traits() const override { return {.names_classes = true}; }
  [[nodiscard]] std::vector<fs::path> files() const override { return files_; }

 private:
  [[nodiscard]] std::unique_ptr<SampleSource> open_source() const override {
    return open_cifar(files_, shape_);
  }

  std::vector<fs::path> files_;
  Shape shape_{3, 32, 32};
};

}  // namespace

std::unique_ptr<SampleSource> open_cifar(const std::vector<fs::path>& files, const Shape& shape) {
  return std::make_unique<CifarSource>(files, shape);
}

DataFormatPtr make_cifar(Settings& settings, const PathResolver& resolve) {
  return std::make_shared<Cifar>(settings, resolve);
}

}  // namespace impart::io

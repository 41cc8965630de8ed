#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "impart/core/error.hpp"
#include "io/byte_stream.hpp"
#include "io/formats/formats.hpp"
#include "io/samples.hpp"

namespace impart::io {

namespace {

namespace fs = std::filesystem;

// Two zero bytes, the type of the values (8: unsigned bytes), the number of extents.
constexpr std::uint32_t kMagicBase = 0x00000800;
// Far above any real image, and small enough that the size of 2^32 of them does not overflow.
constexpr std::int64_t kMaxExtent = 1 << 14;

std::uint32_t read_big_endian(ByteStream& stream) {
  std::array<std::byte, 4> bytes;
  stream.read(bytes, "header");
  std::uint32_t value = 0;
  for (const auto b : bytes) value = value << 8 | std::to_integer<std::uint32_t>(b);
  return value;
}

// Header of an IDX file of unsigned bytes with `rank` extents, which it returns.
std::vector<std::int64_t> read_header(ByteStream& stream, const fs::path& path, std::uint32_t rank,
                                      const char* what) {
  const auto magic = read_big_endian(stream);
  if (magic != kMagicBase + rank) {
    throw Error(fmt::format("no IDX file of {}", what))
        .at(path.string())
        .expected(fmt::format("0x{:08x} at its start", kMagicBase + rank))
        .got(fmt::format("0x{:08x}", magic))
        .hint(magic >> 16 == 0x1F8B           ? "it is packed: name it .gz"
              : magic >> 8 == kMagicBase >> 8 ? "are images and labels exchanged?"
                                              : "is it another file?");
  }
  std::vector<std::int64_t> extents;
  for (std::uint32_t i = 0; i < rank; ++i) extents.push_back(read_big_endian(stream));
  for (std::size_t i = 0; i < extents.size(); ++i) {
    if (extents[i] == 0 || (i > 0 && extents[i] > kMaxExtent)) {
      throw Error("the header's extents are not those of images")
          .at(path.string())
          .got(fmt::format("{}", fmt::join(extents, "x")));
    }
  }
  return extents;
}

class IdxSource : public SampleSource {
 public:
  IdxSource(fs::path images, fs::path labels) : images_(std::move(images)), labels_(std::move(labels)) {
    ByteStream image_stream(images_);
    const auto extents = read_header(image_stream, images_, 3, "images");
    info_.samples = extents[0];
    info_.shape = Shape{1, extents[1], extents[2]};
    info_.element = ElementType::kUint8;
    require_plausible(image_stream, images_, 16 + info_.bytes(),
                      fmt::format("{} images of {}x{}", extents[0], extents[1], extents[2]));

    if (labels_.empty()) {
      info_.labels_per_sample = 0;
      return;
    }
    ByteStream label_stream(labels_);
    const auto count = read_header(label_stream, labels_, 1, "labels").front();
    require_plausible(label_stream, labels_, 8 + static_cast<std::uintmax_t>(count),
                      fmt::format("{} labels", count));
    if (count != info_.samples) {
      throw Error("there must be as many labels as images")
          .at(labels_.string())
          .expected(fmt::format("{}, as in {}", info_.samples, images_.string()))
          .got(std::to_string(count));
    }
  }

  [[nodiscard]] const SampleInfo& info() const override { return info_; }

  void read(std::span<std::byte> samples, std::span<std::int32_t> labels) override {
    require_room(info_, samples, labels);
    ByteStream image_stream(images_);
    read_header(image_stream, images_, 3, "images");
    image_stream.read(samples, "images");
    image_stream.expect_end("last image");

    if (labels_.empty()) return;
    ByteStream label_stream(labels_);
    read_header(label_stream, labels_, 1, "labels");
    std::array<std::byte, 4096> block;
    for (std::size_t done = 0; done < labels.size();) {
      const auto part = std::span(block).first(std::min(block.size(), labels.size() - done));
      label_stream.read(part, "labels");
      for (const auto label : part) labels[done++] = std::to_integer<std::int32_t>(label);
    }
    label_stream.expect_end("last label");
  }

 private:
  fs::path images_, labels_;
  SampleInfo info_;
};

class Idx final : public DataFormat {
 public:
  Idx(Settings& settings, const PathResolver& resolve)
      : images_(require_file(settings, "images", resolve, "the file of images")),
        labels_(read_file(settings, "labels", resolve, "the file of labels; empty: there are none")) {}

  [[nodiscard]] DataTraits traits() const override {
    return {.labels = !labels_.empty(), .names_classes = true};
  }
  [[nodiscard]] std::vector<fs::path> files() const override {
    return labels_.empty() ? std::vector{images_} : std::vector{images_, labels_};
  }

 private:
  [[nodiscard]] std::unique_ptr<SampleSource> open_source() const override {
    return open_idx(images_, labels_);
  }

  fs::path images_, labels_;
};

}  // namespace

std::unique_ptr<SampleSource> open_idx(const fs::path& images, const fs::path& labels) {
  return std::make_unique<IdxSource>(images, labels);
}

DataFormatPtr make_idx(Settings& settings, const PathResolver& resolve) {
  return std::make_shared<Idx>(settings, resolve);
}

}  // namespace impart::io

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <numeric>

#include "io/packed.hpp"
#include "io/samples_support.hpp"

namespace impart::io {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::string big_endian(std::uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xFF);
  return bytes;
}

std::string image_file(std::uint32_t n, std::uint32_t rows, std::uint32_t columns,
                       const std::string& pixels) {
  return big_endian(0x803) + big_endian(n) + big_endian(rows) + big_endian(columns) + pixels;
}

std::string label_file(std::uint32_t n, const std::string& labels) {
  return big_endian(0x801) + big_endian(n) + labels;
}

class Idx : public testing::Test {
 protected:
  // Both files, plain and packed; the message of what goes wrong, equal in kind for both.
  [[nodiscard]] std::string plain_error(const std::string& images, const std::string& labels) const {
    write_bytes(scratch_ / "images", images);
    write_bytes(scratch_ / "labels", labels);
    return error_of([&] { read_all(*open_idx(scratch_ / "images", scratch_ / "labels")); });
  }
  [[nodiscard]] std::string packed_error(const std::string& images, const std::string& labels) const {
    write_bytes(scratch_ / "images.gz", gzip(images));
    write_bytes(scratch_ / "labels.gz", gzip(labels));
    return error_of([&] { read_all(*open_idx(scratch_ / "images.gz", scratch_ / "labels.gz")); });
  }

  ScratchDirectory scratch_;
  std::string images_ = image_file(3, 2, 2, "abcdefghijkl");
  std::string labels_ = label_file(3, {'\x07', '\x00', '\xFF'});
};

TEST_F(Idx, WithoutLabels) {
  write_bytes(scratch_ / "images", images_);
  const auto samples = read_all(*open_idx(scratch_ / "images", {}));
  EXPECT_EQ(samples.info.samples, 3);
  EXPECT_TRUE(samples.labels.empty());
  EXPECT_EQ(samples.byte(11), 'l');
}

TEST_F(Idx, ReadsPlainAndPacked) {
  EXPECT_EQ(plain_error(images_, labels_), "");
  EXPECT_EQ(packed_error(images_, labels_), "");
  for (const std::string suffix : {"", ".gz"}) {
    const auto source = open_idx(scratch_ / ("images" + suffix), scratch_ / ("labels" + suffix));
    for (int pass = 0; pass < 2; ++pass) {
      const auto samples = read_all(*source);
      EXPECT_EQ(samples.info.shape, (Shape{1, 2, 2}));
      EXPECT_EQ(samples.info.element, ElementType::kUint8);
      EXPECT_EQ(samples.byte(5), 'f');
      EXPECT_THAT(samples.labels, ElementsAre(7, 0, 255));
    }
  }
}

TEST_F(Idx, TruncatedAndOversizedFiles) {
  const auto short_images = images_.substr(0, images_.size() - 1);
  const auto short_labels = labels_.substr(0, labels_.size() - 1);
  EXPECT_THAT(plain_error(short_images, labels_),
              AllOf(HasSubstr("images: the file is shorter than its header says"),
                    HasSubstr("expected 28 bytes, got 27")));
  EXPECT_THAT(plain_error(images_ + "x", labels_), HasSubstr("images: the file is longer"));
  EXPECT_THAT(plain_error(images_, short_labels), HasSubstr("labels: the file is shorter"));
  EXPECT_THAT(plain_error(images_, labels_ + "x"), HasSubstr("labels: the file is longer"));
  EXPECT_THAT(packed_error(short_images, labels_), HasSubstr("images.gz: the file ends within its images"));
  EXPECT_THAT(packed_error(images_ + "x", labels_), HasSubstr("images.gz: bytes follow the last image"));
  EXPECT_THAT(packed_error(images_, short_labels), HasSubstr("labels.gz: the file ends within its labels"));
  EXPECT_THAT(packed_error(images_, labels_ + "x"), HasSubstr("labels.gz: bytes follow the last label"));
}

TEST_F(Idx, EveryTruncationIsAnError) {
  for (std::size_t length = 0; length < images_.size(); ++length) {
    EXPECT_THAT(plain_error(images_.substr(0, length), labels_), HasSubstr("images: ")) << length;
  }
}

TEST_F(Idx, DamagedGzipFiles) {
  write_bytes(scratch_ / "labels", labels_);
  const auto packed = gzip(images_);
  const auto error = [&](const std::string& bytes) {
    write_bytes(scratch_ / "images.gz", bytes);
    return error_of([&] { read_all(*open_idx(scratch_ / "images.gz", scratch_ / "labels")); });
  };
  EXPECT_EQ(error(packed), "");
  EXPECT_THAT(error(packed.substr(0, packed.size() - 1)), HasSubstr("cut off"));
  EXPECT_THAT(error(packed + "x"), HasSubstr("bytes follow"));
  auto damaged = packed;
  damaged[damaged.size() - 6] = static_cast<char>(~damaged[damaged.size() - 6]);
  EXPECT_THAT(error(damaged), HasSubstr("incorrect data check"));
}

TEST_F(Idx, WrongMagic) {
  EXPECT_THAT(plain_error("PNG " + images_, labels_),
              AllOf(HasSubstr("no IDX file of images"), HasSubstr("0x00000803")));
  EXPECT_THAT(plain_error(labels_, images_), HasSubstr("are images and labels exchanged?"));
  EXPECT_THAT(plain_error(gzip(images_), labels_), HasSubstr("name it .gz"));
  EXPECT_THAT(plain_error(images_, "abcdefghijk"), HasSubstr("labels: no IDX file of labels"));
}

TEST_F(Idx, CountsThatDiffer) {
  EXPECT_THAT(plain_error(images_, label_file(2, "ab")),
              AllOf(HasSubstr("as many labels as images"), HasSubstr("expected 3"), HasSubstr("got 2")));
  EXPECT_THAT(packed_error(images_, label_file(4, "abcd")), HasSubstr("as many labels as images"));
}

// Refused when opened, before anybody can allocate what the header claims.
TEST_F(Idx, ClaimsThatNoFileOfThisSizeCanHold) {
  const auto bomb = image_file(4'000'000'000, 16'000, 16'000, "x");
  write_bytes(scratch_ / "labels", labels_);
  write_bytes(scratch_ / "images.gz", gzip(bomb));
  write_bytes(scratch_ / "images", bomb);
  EXPECT_THAT(error_of([&] { open_idx(scratch_ / "images.gz", scratch_ / "labels"); }),
              HasSubstr("more than a gzip file of this size can hold"));
  EXPECT_THAT(error_of([&] { open_idx(scratch_ / "images", scratch_ / "labels"); }), HasSubstr("shorter"));
  EXPECT_THAT(plain_error(image_file(1, 0xFFFFFFFF, 0xFFFFFFFF, ""), labels_), HasSubstr("extents"));
  EXPECT_THAT(plain_error(image_file(0, 28, 28, ""), label_file(0, "")), HasSubstr("extents"));
}

TEST_F(Idx, MemoryOfTheWrongSizeIsRefused) {
  ASSERT_EQ(plain_error(images_, labels_), "");
  const auto source = open_idx(scratch_ / "images", scratch_ / "labels");
  std::vector<std::byte> bytes(11);
  std::vector<std::int32_t> labels(3);
  EXPECT_THAT(error_of([&] { source->read(bytes, labels); }), HasSubstr("wrong size"));
}

TEST(IdxData, MnistTestImages) {
  const auto samples = read_all(*open_idx(shipped_data("mnist/t10k-images-idx3-ubyte.gz"),
                                          shipped_data("mnist/t10k-labels-idx1-ubyte.gz")));
  EXPECT_EQ(samples.info.samples, 10'000);
  EXPECT_EQ(samples.info.shape, (Shape{1, 28, 28}));
  EXPECT_THAT(std::vector(samples.labels.begin(), samples.labels.begin() + 5), ElementsAre(7, 2, 1, 0, 4));
  std::array<int, 10> count{};
  for (const auto label : samples.labels) ++count.at(static_cast<std::size_t>(label));
  EXPECT_THAT(count, ElementsAre(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009));
  std::int64_t sum = 0;
  for (const auto b : samples.bytes) sum += std::to_integer<int>(b);
  EXPECT_NEAR(static_cast<double>(sum) / static_cast<double>(samples.bytes.size()) / 255, 0.1325, 0.0001);
}

}  // namespace
}  // namespace impart::io

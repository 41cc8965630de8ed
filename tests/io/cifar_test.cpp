#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/packed.hpp"
#include "io/samples_support.hpp"

namespace impart::io {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const Shape kSmall{3, 1, 2};

TEST(Cifar, SeveralFilesAreOneSet) {
  const ScratchDirectory scratch;
  write_bytes(scratch / "a.bin",
              "\x01"
              "RRGGBB"
              "\x02"
              "rrggbb");
  write_bytes(scratch / "b.bin.gz", gzip("\x03"
                                         "123456"));
  const auto source = open_cifar({scratch / "a.bin", scratch / "b.bin.gz"}, kSmall);
  for (int pass = 0; pass < 2; ++pass) {
    const auto samples = read_all(*source);
    EXPECT_EQ(samples.info.samples, 3);
    EXPECT_EQ(samples.info.shape, kSmall);
    EXPECT_THAT(samples.labels, ElementsAre(1, 2, 3));
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(samples.bytes.data()), samples.bytes.size()),
              "RRGGBBrrggbb123456");
  }
}

TEST(Cifar, SizesThatAreNoMultiple) {
  const ScratchDirectory scratch;
  for (const std::string bytes : {"", "\x01",
                                  "\x01"
                                  "RRGGB",
                                  "\x01"
                                  "RRGGBB"
                                  "x"}) {
    write_bytes(scratch / "a.bin", bytes);
    write_bytes(scratch / "a.bin.gz", gzip(bytes));
    for (const std::string name : {"a.bin", "a.bin.gz"}) {
      EXPECT_THAT(error_of([&] { open_cifar({scratch / name}, kSmall); }),
                  AllOf(HasSubstr(name), HasSubstr("a multiple of 7 bytes")));
    }
  }
}

TEST(Cifar, DamagedFiles) {
  const ScratchDirectory scratch;
  const auto packed = gzip(
      "\x01"
      "RRGGBB");
  write_bytes(scratch / "a.bin.gz", packed.substr(0, packed.size() - 3));
  EXPECT_THAT(error_of([&] { open_cifar({scratch / "a.bin.gz"}, kSmall); }), HasSubstr("cut off"));
  write_bytes(scratch / "a.bin.gz", packed + "y");
  EXPECT_THAT(error_of([&] { open_cifar({scratch / "a.bin.gz"}, kSmall); }), HasSubstr("bytes follow"));
  EXPECT_THAT(error_of([&] { open_cifar({scratch / "none.bin"}, kSmall); }), HasSubstr("No such file"));
}

TEST(Cifar, AFileThatChangesAfterItWasOpened) {
  const ScratchDirectory scratch;
  write_bytes(scratch / "a.bin",
              "\x01"
              "RRGGBB");
  const auto source = open_cifar({scratch / "a.bin"}, kSmall);
  write_bytes(scratch / "a.bin",
              "\x01"
              "RRGG");
  EXPECT_THAT(error_of([&] { read_all(*source); }), HasSubstr("ends within its records"));
  write_bytes(scratch / "a.bin",
              "\x01"
              "RRGGBB"
              "x");
  EXPECT_THAT(error_of([&] { read_all(*source); }), HasSubstr("bytes follow the last record"));
}

TEST(Cifar, WrongSettings) {
  const ScratchDirectory scratch;
  EXPECT_THAT(error_of([] { open_cifar({}); }), HasSubstr("at least one file"));
  for (const auto& shape : {Shape{3, 0, 32}, Shape{-3, 32, 32}, Shape{1 << 30, 1 << 30, 1 << 30}}) {
    EXPECT_THAT(error_of([&] { open_cifar({scratch / "a.bin"}, shape); }),
                HasSubstr("cannot have this shape"));
  }
}

TEST(SharedData, FirstBatchOfCifar) {
  IMPART_NEEDS_DATA("cifar10");
  const auto samples = read_all(*open_cifar({shared_data("cifar10/data_batch_1.bin.gz")}));
  EXPECT_EQ(samples.info.samples, 10'000);
  EXPECT_THAT(std::vector(samples.labels.begin(), samples.labels.begin() + 5), ElementsAre(6, 9, 9, 4, 1));
  EXPECT_THAT((std::vector{samples.byte(0), samples.byte(1), samples.byte(2)}), ElementsAre(59, 43, 50));
}

}  // namespace
}  // namespace impart::io

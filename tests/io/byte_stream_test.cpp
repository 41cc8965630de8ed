#include "io/byte_stream.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "io/packed.hpp"
#include "io/support.hpp"

namespace impart::io {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string sample_bytes(std::size_t count) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) bytes += static_cast<char>(i * i / 7);
  return bytes;
}

std::string unpack(const std::filesystem::path& path, std::size_t block = 1000) {
  ByteStream stream(path);
  std::string all;
  std::vector<std::byte> bytes(block);
  while (const auto got = stream.read_some(bytes))
    all.append(reinterpret_cast<const char*>(bytes.data()), got);
  return all;
}

TEST(ByteStream, ReadsPlainAndPacked) {
  const ScratchDirectory scratch;
  const auto bytes = sample_bytes(700'000);
  write_bytes(scratch / "a", bytes);
  write_bytes(scratch / "a.gz", gzip(bytes));
  for (const std::size_t block : {7UL, 777UL, 1'000'000UL}) {
    EXPECT_EQ(unpack(scratch / "a", block), bytes);
    EXPECT_EQ(unpack(scratch / "a.gz", block), bytes);
  }
}

TEST(ByteStream, ReadsSeveralMembers) {
  const ScratchDirectory scratch;
  write_bytes(scratch / "a.gz", gzip("one ") + gzip("") + gzip("two"));
  EXPECT_EQ(unpack(scratch / "a.gz"), "one two");
}

TEST(ByteStream, EveryTruncationOfAGzipFileIsNoticed) {
  const ScratchDirectory scratch;
  const auto packed = gzip(sample_bytes(3000));
  for (std::size_t length = 0; length < packed.size(); ++length) {
    write_bytes(scratch / "a.gz", packed.substr(0, length));
    EXPECT_THAT(error_of([&] { unpack(scratch / "a.gz"); }), AllOf(HasSubstr("a.gz"), HasSubstr("cut off")))
        << length;
  }
}

TEST(ByteStream, WrongChecksumAndLengthAreNoticed) {
  const ScratchDirectory scratch;
  const auto packed = gzip(sample_bytes(3000));
  for (std::size_t back = 1; back <= 8; ++back) {
    auto damaged = packed;
    damaged[damaged.size() - back] = static_cast<char>(damaged[damaged.size() - back] ^ 1);
    write_bytes(scratch / "a.gz", damaged);
    EXPECT_THAT(
        error_of([&] { unpack(scratch / "a.gz"); }),
        AllOf(HasSubstr("damaged"), HasSubstr(back > 4 ? "incorrect data check" : "incorrect length check")));
  }
}

TEST(ByteStream, BytesAfterTheGzipDataAreNoticed) {
  const ScratchDirectory scratch;
  write_bytes(scratch / "a.gz", gzip("data") + "x");
  EXPECT_THAT(error_of([&] { unpack(scratch / "a.gz"); }),
              HasSubstr("bytes follow the end of the gzip data"));
  write_bytes(scratch / "a.gz", gzip("data") + "\x1f\x8b");
  EXPECT_THAT(error_of([&] { unpack(scratch / "a.gz"); }), HasSubstr("cut off"));
}

TEST(ByteStream, AFileThatIsNotPackedButNamedSo) {
  const ScratchDirectory scratch;
  write_bytes(scratch / "a.gz", "plain text");
  EXPECT_THAT(error_of([&] { unpack(scratch / "a.gz"); }), HasSubstr("must not be named .gz"));
}

TEST(ByteStream, ShortAndLongReads) {
  const ScratchDirectory scratch;
  write_bytes(scratch / "a", "12345");
  std::vector<std::byte> bytes(4);
  ByteStream stream(scratch / "a");
  stream.read(bytes, "digits");
  EXPECT_THAT(error_of([&] { stream.expect_end("digits"); }), HasSubstr("bytes follow the digits"));
  ByteStream again(scratch / "a");
  again.read(bytes, "digits");
  EXPECT_THAT(error_of([&] { again.read(bytes, "digits"); }), HasSubstr("ends within its digits"));
}

TEST(ByteStream, WhatCannotBeRead) {
  const ScratchDirectory scratch;
  EXPECT_THAT(error_of([&] { const ByteStream stream(scratch / "none"); }), HasSubstr("No such file"));
  EXPECT_THAT(error_of([&] { const ByteStream stream(scratch.path()); }), HasSubstr("regular file"));
}

}  // namespace
}  // namespace impart::io

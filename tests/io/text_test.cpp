#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/packed.hpp"
#include "io/samples_support.hpp"

namespace impart::io {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Text, WindowsAndTheCharactersThatFollow) {
  const ScratchDirectory scratch;
  const std::string text = "badcab\n\xff";
  write_bytes(scratch / "plain.txt", text);
  write_bytes(scratch / "packed.txt.gz", gzip(text));
  for (const auto* name : {"plain.txt", "packed.txt.gz"}) {
    const auto source = open_text(scratch / name, {.context = 3});
    for (int pass = 0; pass < 2; ++pass) {
      const auto samples = read_all(*source);
      EXPECT_EQ(samples.info.vocabulary, "\nabcd\xff");
      EXPECT_EQ(samples.info.samples, 2);  // the last two characters are no whole window
      EXPECT_EQ(samples.info.shape, Shape{3});
      EXPECT_EQ(samples.info.labels_per_sample, 3);
      EXPECT_EQ(samples.info.element, ElementType::kUint8);
      EXPECT_THAT(samples.bytes, ElementsAre(std::byte{2}, std::byte{1}, std::byte{4},    // bad
                                             std::byte{3}, std::byte{1}, std::byte{2}));  // cab
      EXPECT_THAT(samples.labels, ElementsAre(1, 4, 3, 1, 2, 0));                         // adc, ab\n
    }
  }
}

TEST(Text, AStrideMakesWindowsOverlap) {
  const ScratchDirectory scratch;
  write_bytes(scratch / "t.txt", "abcab");
  const auto samples = read_all(*open_text(scratch / "t.txt", {.context = 2, .stride = 1}));
  EXPECT_EQ(samples.info.samples, 3);
  EXPECT_THAT(samples.labels, ElementsAre(1, 2, 2, 0, 0, 1));  // of ab, bc, ca
}

TEST(Text, TheVocabularyOfAnotherText) {
  const ScratchDirectory scratch;
  write_bytes(scratch / "large.txt", "abcde");
  write_bytes(scratch / "small.txt", "cab");
  const auto samples =
      read_all(*open_text(scratch / "small.txt", {.context = 2, .vocabulary = scratch / "large.txt"}));
  EXPECT_EQ(samples.info.vocabulary, "abcde");
  EXPECT_THAT(samples.labels, ElementsAre(0, 1));
  EXPECT_THAT(error_of([&] {
                open_text(scratch / "large.txt", {.context = 2, .vocabulary = scratch / "small.txt"});
              }),
              HasSubstr("the text has a character that its vocabulary does not have"));
}

TEST(Text, TooShort) {
  const ScratchDirectory scratch;
  write_bytes(scratch / "t.txt", "abcd");
  EXPECT_EQ(open_text(scratch / "t.txt", {.context = 3})->info().samples, 1);
  for (const std::int64_t context : {4, 100}) {
    EXPECT_THAT(error_of([&] { open_text(scratch / "t.txt", {.context = context}); }),
                HasSubstr("the text is too short for one sample"));
  }
  write_bytes(scratch / "empty.txt", "");
  EXPECT_THAT(error_of([&] { open_text(scratch / "empty.txt", {.context = 1}); }), HasSubstr("got 0"));
}

}  // namespace
}  // namespace impart::io

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/packed.hpp"
#include "io/samples_support.hpp"

namespace impart::io {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

CsvOptions last_column() { return {false, "-1", {}, ','}; }
CsvOptions named(const std::string& label) { return {true, label, {}, ','}; }

class Csv : public testing::Test {
 protected:
  [[nodiscard]] Samples read(const std::string& text, const CsvOptions& options) const {
    write_bytes(scratch_ / "data.csv", text);
    return read_all(*open_csv(scratch_ / "data.csv", options));
  }
  [[nodiscard]] std::string error(const std::string& text, const CsvOptions& options = last_column()) const {
    return error_of([&] { static_cast<void>(read(text, options)); });
  }
  static std::vector<float> numbers(const Samples& samples) {
    std::vector<float> all(samples.bytes.size() / sizeof(float));
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = samples.number(i);
    return all;
  }

  ScratchDirectory scratch_;
};

TEST_F(Csv, NumbersAndLabels) {
  const auto samples = read("1,2.5,0\n-3e2, +4 ,7\n", last_column());
  EXPECT_EQ(samples.info.samples, 2);
  EXPECT_EQ(samples.info.shape, Shape{2});
  EXPECT_EQ(samples.info.element, ElementType::kFloat32);
  EXPECT_THAT(numbers(samples), ElementsAre(1, 2.5, -300, 4));
  EXPECT_THAT(samples.labels, ElementsAre(0, 7));
}

TEST_F(Csv, LineEndsBlankLinesAndByteOrderMark) {
  for (const std::string text : {"1,2,0\r\n3,4,1\r\n", "1,2,0\n3,4,1",
                                 "\xEF\xBB\xBF"
                                 "1,2,0\n\n3,4,1\n\n\n",
                                 "\r\n1,2,0\r\n\r\n3,4,1", "\"1\",\"2\",\"0\"\n\"3\",4,\"1\""}) {
    const auto samples = read(text, last_column());
    EXPECT_THAT(numbers(samples), ElementsAre(1, 2, 3, 4)) << text;
    EXPECT_THAT(samples.labels, ElementsAre(0, 1)) << text;
  }
}

TEST_F(Csv, LabelColumnByNameAndIndex) {
  const std::string text = "a,\"the, \"\"class\"\"\",b\n1,2,3\n4,5,6\n";
  for (const std::string label : {"the, \"class\"", "1", "-2"}) {
    const auto samples = read(text, named(label));
    EXPECT_THAT(samples.labels, ElementsAre(2, 5)) << label;
    EXPECT_THAT(numbers(samples), ElementsAre(1, 3, 4, 6)) << label;
  }
  EXPECT_THAT(read("1,2,3\n", {false, "0", {}, ','}).labels, ElementsAre(1));
  EXPECT_THAT(read("1,2,3\n", {false, "-3", {}, ','}).labels, ElementsAre(1));
  EXPECT_THAT(error(text, named("c")),
              AllOf(HasSubstr("no such label column"), HasSubstr("a, the, \"class\", b")));
  for (const std::string label : {"3", "-4", "x", " ", "1x"}) {
    EXPECT_THAT(error("1,2,3\n", {false, label, {}, ','}), HasSubstr("no such label column")) << label;
  }
}

TEST_F(Csv, OtherSeparators) {
  EXPECT_THAT(numbers(read("1;2;0\n", {false, "-1", {}, ';'})), ElementsAre(1, 2));
  EXPECT_THAT(numbers(read("1\t2\t0\n", {false, "-1", {}, '\t'})), ElementsAre(1, 2));
}

TEST_F(Csv, ShapeOfASample) {
  const auto samples = read("1,2,3,4,0\n", {false, "-1", Shape{1, 2, 2}, ','});
  EXPECT_EQ(samples.info.shape, (Shape{1, 2, 2}));
  EXPECT_THAT(error("1,2,3,0\n", {false, "-1", Shape{1, 2, 2}, ','}),
              AllOf(HasSubstr("expected 4"), HasSubstr("got 3")));
  EXPECT_THAT(error("1\n2\n"), HasSubstr("do not make a sample"));
}

TEST_F(Csv, TooFewAndTooManyFields) {
  EXPECT_THAT(error("1,2,0\n\n3,4\n"),
              AllOf(HasSubstr("data.csv: line 3: too few fields"), HasSubstr("expected 3, got 2")));
  EXPECT_THAT(error("1,2,0\n3,4,5,1\n"),
              AllOf(HasSubstr("line 2: too many fields"), HasSubstr("expected 3, got 4")));
  EXPECT_THAT(error("a,b,c\n1,2\n", named("c")), HasSubstr("line 2: too few fields"));
  EXPECT_THAT(error("1,2,0\n\"1\n\n\",2,0\n3,4\n"), HasSubstr("line 5: too few"));
}

TEST_F(Csv, TextWhereANumberBelongs) {
  EXPECT_THAT(error("1,2,0\n3,four,1\n"),
              AllOf(HasSubstr("line 2, column 1: no finite number"), HasSubstr("'four'")));
  EXPECT_THAT(error("a,b,c\n1,2,0\n", last_column()), HasSubstr("line 1, column 0"));
  EXPECT_THAT(error("a,b,c\n1,,0\n", named("c")), HasSubstr("column 1 'b'"));
  for (const std::string field :
       {"", " ", "1.5x", "1 2", "0x10", "nan", "inf", "1e39", "--1", "+-1", "1e", "\x01"}) {
    EXPECT_THAT(error("1," + field + ",0\n"), HasSubstr("no finite number")) << field;
  }
  EXPECT_THAT(numbers(read("1e-400,1e-50,0\n", last_column())), ElementsAre(0, 0)) << "small is not wrong";
}

TEST_F(Csv, AHeaderThatIsNotExpectedShowsOnOpening) {
  write_bytes(scratch_ / "data.csv", "height,width,kind\n1,2,0\n");
  EXPECT_THAT(error_of([&] { open_csv(scratch_ / "data.csv", {.label = "-1", .shape = {}}); }),
              AllOf(HasSubstr("line 1, column 0: no finite number: got 'height'"),
                    HasSubstr("(if the first line is a header, set `header = true`)")));
}

TEST_F(Csv, WithoutLabels) {
  write_bytes(scratch_ / "data.csv", "1,2,0\n4,5,6\n");
  const auto samples = read_all(*open_csv(scratch_ / "data.csv", {.label = "", .shape = {}}));
  EXPECT_EQ(samples.info.labels_per_sample, 0);
  EXPECT_EQ(samples.info.shape, Shape{3});
  EXPECT_TRUE(samples.labels.empty());
  EXPECT_EQ(samples.number(2), 0);
  EXPECT_EQ(samples.number(5), 6);
}

TEST_F(Csv, LabelsThatAreNoLabels) {
  for (const std::string label : {"-1", "1.5", "3000000000"}) {
    EXPECT_THAT(error("1,2," + label + "\n"), AllOf(HasSubstr("whole number"), HasSubstr(label))) << label;
  }
  EXPECT_THAT(error("1,2,cat\n"), HasSubstr("'cat'"));
  EXPECT_THAT(read("1,2,3.0\n", last_column()).labels, ElementsAre(3));
}

TEST_F(Csv, BrokenQuotes) {
  EXPECT_THAT(error("1,\"2,0\n3,4,1\n"), HasSubstr("a quoted field has no end"));
  EXPECT_THAT(error("1,\"2\"x,0\n"), HasSubstr("text follows the end of a quoted field"));
}

TEST_F(Csv, EmptyFilesAndFilesThatAreNoText) {
  EXPECT_THAT(error(""), HasSubstr("no rows"));
  EXPECT_THAT(error("\n\n\n"), HasSubstr("no rows"));
  EXPECT_THAT(error("", named("a")), HasSubstr("empty"));
  EXPECT_THAT(error("a,b\n", named("a")), HasSubstr("no rows"));
  EXPECT_THAT(error(std::string(100'000, '7')), HasSubstr("longer than"));
  EXPECT_THAT(error_of([&] { open_csv(scratch_ / "none.csv", last_column()); }), HasSubstr("No such file"));
}

TEST_F(Csv, Packed) {
  write_bytes(scratch_ / "data.csv.gz", gzip("1,2,0\n"));
  EXPECT_THAT(numbers(read_all(*open_csv(scratch_ / "data.csv.gz", last_column()))), ElementsAre(1, 2));
  write_bytes(scratch_ / "data.csv.gz", gzip("1,2,0\n").substr(0, 20));
  EXPECT_THAT(error_of([&] { open_csv(scratch_ / "data.csv.gz", last_column()); }), HasSubstr("cut off"));
}

// Longer than the parser's buffer, so that fields, quotes and line ends fall on its edges.
TEST_F(Csv, LongFiles) {
  std::string text;
  for (int i = 0; i < 60'000; ++i) text += std::to_string(i) + ",\"" + std::to_string(i % 77) + "\"\r\n";
  const auto samples = read(text, last_column());
  ASSERT_EQ(samples.info.samples, 60'000);
  for (std::size_t i = 0; i < 60'000; ++i) {
    ASSERT_EQ(samples.number(i), static_cast<float>(i));
    ASSERT_EQ(samples.labels[i], static_cast<std::int32_t>(i % 77));
  }
}

TEST_F(Csv, AFileThatChangesAfterItWasOpened) {
  write_bytes(scratch_ / "data.csv", "1,2,0\n3,4,1\n");
  const auto source = open_csv(scratch_ / "data.csv", last_column());
  write_bytes(scratch_ / "data.csv", "1,2,0\n");
  EXPECT_THAT(error_of([&] { read_all(*source); }), HasSubstr("too few fields"));
  write_bytes(scratch_ / "data.csv", "1,2,0\n3,4,1,9,9,9,9\n");
  EXPECT_THAT(error_of([&] { read_all(*source); }), HasSubstr("too many fields"));
  write_bytes(scratch_ / "data.csv", "1,2,0\n3,4,1\n5,6,1\n");
  EXPECT_THAT(error_of([&] { read_all(*source); }), HasSubstr("grown"));
}

TEST(CsvData, Optdigits) {
  const auto samples =
      read_all(*open_csv(shipped_data("optdigits/optdigits.tra"), {false, "-1", Shape{1, 8, 8}, ','}));
  EXPECT_EQ(samples.info.samples, 3823);
  EXPECT_EQ(samples.labels.front(), 0);
  EXPECT_EQ(samples.number(2), 6);
  EXPECT_EQ(samples.number(64 + 2), 10);
}

}  // namespace
}  // namespace impart::io

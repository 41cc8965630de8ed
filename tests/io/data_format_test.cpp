// What a format reads of its settings, and what it says of files that cannot be read.

#include "impart/io/data_format.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "io/samples_support.hpp"

namespace impart::io {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::filesystem::path as_it_is(const std::string& file) { return file; }

/// A format of a table, and what is wrong with that.
struct Read {
  Read(std::string_view format, SettingTable given) : table(std::move(given)) {
    Settings settings(table, "dataset.a", places, problems);
    made = data_formats().get(format).make(settings, as_it_is);
    settings.finish();
  }

  SettingTable table;
  Places places;
  Problems problems;
  DataFormatPtr made;
};

TEST(DataFormat, EachTellsItsSettings) {
  const auto docs = data_formats().document(as_it_is);
  ASSERT_THAT(docs, SizeIs(5));
  for (const auto& kind : docs) {
    EXPECT_FALSE(kind.settings.empty()) << kind.name;
    for (const auto& setting : kind.settings) EXPECT_FALSE(setting.text.empty()) << setting.key;
  }
}

TEST(DataFormat, SaysWhatItReadsAndWhetherThereAreLabels) {
  const Read idx("idx", {{"images", "a"}, {"labels", "b"}});
  EXPECT_THAT(idx.problems.lines(), IsEmpty());
  EXPECT_THAT(idx.made->files(), ElementsAre("a", "b"));
  EXPECT_TRUE(idx.made->traits().labels && idx.made->traits().names_classes);
  EXPECT_FALSE(Read("idx", {{"images", "a"}}).made->traits().labels);

  const Read csv("csv", {{"file", "a"}, {"label", ""}, {"header", true}, {"separator", ";"}});
  EXPECT_THAT(csv.problems.lines(), IsEmpty());
  EXPECT_FALSE(csv.made->traits().labels);
  EXPECT_TRUE(Read("csv", {{"file", "a"}, {"label", 3}}).made->traits().labels);
  EXPECT_FALSE(Read("hdf5", {{"file", "a"}, {"labels", ""}}).made->traits().labels);

  const Read text("text", {{"file", "a"}, {"vocabulary", "v"}, {"context", 12}, {"stride", 4}});
  EXPECT_THAT(text.made->files(), ElementsAre("a", "v"));
  EXPECT_TRUE(text.made->traits().text);
  EXPECT_EQ(text.made->traits().gap, 3);
  EXPECT_EQ(Read("text", {{"file", "a"}, {"context", 12}}).made->traits().gap, 1);
}

TEST(DataFormat, ScalesBytesOfImagesOnly) {
  EXPECT_EQ(default_scale({}, ElementType::kUint8), 1.0 / 255.0);
  EXPECT_EQ(default_scale({}, ElementType::kFloat32), 1.0);
  EXPECT_EQ(default_scale({.text = true}, ElementType::kUint8), 1.0);
}

TEST(DataFormat, WhatIsNotThereIsAProblem) {
  const auto problems = [](std::string_view format, SettingTable table) {
    return Read(format, std::move(table)).problems.lines();
  };
  EXPECT_THAT(problems("cifar", {{"files", SettingArray{}}}),
              ElementsAre("dataset.a.files: expected at least 1, got none"));
  EXPECT_THAT(problems("cifar", {}), ElementsAre("dataset.a: 'files' is missing"));
  EXPECT_THAT(problems("csv", {{"file", ""}}),
              ElementsAre("dataset.a.file: expected the path of a file, got \"\""));
  EXPECT_THAT(problems("csv", {{"file", 3}}), ElementsAre(HasSubstr("expected a string")));
  EXPECT_THAT(problems("csv", {{"file", "a"}, {"separator", "::"}}),
              ElementsAre(HasSubstr("separator: expected one character")));
  EXPECT_THAT(problems("idx", {{"images", "a"}, {"shape", std::vector<std::int64_t>{1}}}),
              ElementsAre(HasSubstr("unknown key 'shape'")));
}

TEST(DataFormat, APathThatIsNoFileIsOneError) {
  const ScratchDirectory scratch;
  std::filesystem::create_symlink(scratch / "loop", scratch / "loop");
  std::filesystem::create_symlink(scratch / "nowhere", scratch / "dangling");
  ASSERT_EQ(::mkfifo((scratch / "pipe").c_str(), 0600), 0);
  for (const auto& name : {"loop", "dangling", "absent", "pipe", ""}) {
    const auto path = (scratch / name).string();
    for (const auto& [format, key] : {std::pair{"idx", "images"},
                                      {"csv", "file"},
                                      {"cifar", "files"},
                                      {"hdf5", "file"},
                                      {"text", "file"}}) {
      SettingTable table;
      put_setting(table, key, path);
      const Read read(format, table);
      EXPECT_THAT(error_of([&] { static_cast<void>(read.made->open()); }),
                  AllOf(HasSubstr("file"), HasSubstr(path)))
          << format << ' ' << name;
    }
    EXPECT_THAT(error_of([&] { open_hdf5(path, "samples", "labels"); }), HasSubstr(path)) << name;
  }
}

TEST(DataFormat, OpensWhatItsSettingsSay) {
  const ScratchDirectory scratch;
  write_bytes(scratch / "a.csv", "x;y;c\n1;2;0\n3;4;1\n");
  const Read read(
      "csv", {{"file", (scratch / "a.csv").string()}, {"header", true}, {"label", "c"}, {"separator", ";"}});
  const auto samples = read_all(*read.made->open());
  EXPECT_THAT(samples.labels, ElementsAre(0, 1));
  EXPECT_EQ(samples.number(3), 4.0F);
}

}  // namespace
}  // namespace impart::io

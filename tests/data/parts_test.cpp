// A data set from its settings: what they read as, what they refuse, and the parts that come of them.

#include "impart/data/parts.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "impart/core/error.hpp"

namespace impart::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::filesystem::path as_it_is(const std::string& file) { return file; }

struct Read {
  explicit Read(SettingTable given) : table(std::move(given)) {
    Settings settings(table, "dataset.a", places, problems);
    made = read_dataset_settings(settings, as_it_is);
    resolved = settings.resolved();
  }

  SettingTable table;
  Places places;
  Problems problems;
  DatasetSettings made;
  SettingTable resolved;
};

SettingTable csv_with(SettingTable more) {
  SettingTable table{{"format", "csv"}, {"file", "a.csv"}, {"classes", 3}};
  for (auto& [key, value] : more) put_setting(table, key, std::move(value));
  return table;
}

TEST(DatasetSettings, ReadsAllThatDataSetsHaveAlike) {
  const Read read(csv_with({{"split", SettingTable{{"train", 0.5}, {"test", 0.25}}},
                            {"limit", SettingTable{{"train", 7}}},
                            {"resize", std::vector<std::int64_t>{4, 5}},
                            {"scale", 0.5},
                            {"normalise", SettingTable{{"mean", std::vector<double>{1, 2}},
                                                       {"std", std::vector<double>{3, 4}}}}}));
  EXPECT_THAT(read.problems.lines(), IsEmpty());
  EXPECT_THAT(read.made.split, ElementsAre(0.5, 0, 0.25));
  EXPECT_THAT(read.made.limit, ElementsAre(7, 0, 0));
  EXPECT_EQ(read.made.resize, (Shape{4, 5}));
  EXPECT_EQ(read.made.scale, 0.5);
  EXPECT_THAT(read.made.mean, ElementsAre(1, 2));
  EXPECT_THAT(read.made.std, ElementsAre(3, 4));
  EXPECT_EQ(read.made.classes, 3);
}

TEST(DatasetSettings, DefaultsAreKept) {
  const Read read({{"format", "idx"}, {"images", "a"}});
  EXPECT_THAT(read.problems.lines(), IsEmpty());
  EXPECT_EQ(
      to_json(read.resolved),
      R"({"format":"idx","images":"a","labels":"","classes":10,"resize":[],"normalise":true,)"
      R"("split":{"train":1.0,"validation":0.0,"test":0.0},"limit":{"train":0,"validation":0,"test":0}})");
}

TEST(DatasetSettings, WhatIsWrongIsTold) {
  const auto problems = [](SettingTable table) { return Read(std::move(table)).problems.lines(); };
  const auto normalised = [](SettingTable table) { return csv_with({{"normalise", std::move(table)}}); };
  const auto list = [](std::vector<double> values) { return SettingValue(values); };
  EXPECT_THAT(problems({{"file", "a"}, {"classes", 2}}), ElementsAre("dataset.a: 'format' is missing"));
  EXPECT_THAT(problems({{"format", "cvs"}, {"file", "a"}}), ElementsAre(HasSubstr("did you mean 'csv'?")));
  EXPECT_THAT(problems({{"format", "csv"}, {"file", "a"}}), ElementsAre("dataset.a: 'classes' is missing"));
  EXPECT_THAT(problems({{"format", "csv"}, {"file", "a"}, {"label", ""}}), IsEmpty());
  EXPECT_THAT(problems({{"format", "text"}, {"file", "a"}}), ElementsAre("dataset.a: 'classes' is missing"));
  for (const auto* key : {"limit", "resize", "scale", "normalise"}) {
    EXPECT_THAT(problems({{"format", "text"}, {"file", "a"}, {"classes", 9}, {key, SettingTable()}}),
                ElementsAre(HasSubstr("unknown key")));
  }
  EXPECT_THAT(problems(csv_with({{"split", SettingTable{{"train", 0.7}, {"test", 0.4}}}})),
              ElementsAre(HasSubstr("expected fractions that sum to at most 1")));
  EXPECT_THAT(problems(csv_with({{"resize", std::vector<std::int64_t>{4}}})),
              ElementsAre(HasSubstr("expected [height, width]")));
  EXPECT_THAT(problems(normalised({{"mean", list({1})}, {"deviation", list({1})}})),
              ElementsAre(HasSubstr("deviation: is called `std` now"), HasSubstr("'std' is missing")));
  EXPECT_THAT(problems(normalised({{"mean", list({1})}, {"std", list({1, 2})}})),
              ElementsAre(HasSubstr("a mean and a std for each channel, got 1 and 2")));
  EXPECT_THAT(problems(normalised({{"mean", list({1})}, {"std", list({0})}})),
              ElementsAre(HasSubstr("above 0")));
}

TEST(DatasetSettings, MustFitTheFiles) {
  const auto read = [](SettingTable more) { return Read(csv_with(std::move(more))).made; };
  const io::SampleInfo rows{.samples = 9, .shape = Shape{4}};
  const io::SampleInfo images{.samples = 9, .shape = Shape{3, 8, 8}};
  const io::SampleInfo unlabelled{.samples = 9, .shape = Shape{4}, .labels_per_sample = 0};
  const auto resized = read({{"resize", std::vector<std::int64_t>{4, 5}}});
  EXPECT_EQ(check_samples(resized, images), (Shape{3, 4, 5}));
  EXPECT_THROW(check_samples(resized, rows), Error);
  const auto one_mean =
      read({{"normalise", SettingTable{{"mean", std::vector<double>{1}}, {"std", std::vector<double>{1}}}}});
  EXPECT_EQ(check_samples(one_mean, rows), Shape{4});
  EXPECT_THROW(check_samples(one_mean, images), Error);
  EXPECT_THROW(check_samples(read({{"limit", SettingTable{{"train", 1}}}}), unlabelled), Error);
  const Read text({{"format", "text"}, {"file", "a"}, {"classes", 9}});
  EXPECT_THROW(check_samples(text.made, {.samples = 9, .shape = Shape{4}, .vocabulary = "abc"}), Error);
}

/// A file that the root writes and all ranks of this machine see.
class SharedFile {
 public:
  SharedFile(const comm::Comm& comm, const std::string& text) : comm_(comm) {
    auto name =
        (std::filesystem::temp_directory_path() / ("impart-parts-" + std::to_string(::getpid()))).string();
    comm.broadcast(name, 0, "name");
    path_ = name;
    if (comm.is_root()) std::ofstream(path_) << text;
    comm.barrier();
  }
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;
  ~SharedFile() {
    comm_.barrier();
    if (comm_.is_root()) std::filesystem::remove(path_);
  }
  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  const comm::Comm& comm_;
  std::filesystem::path path_;
};

TEST(Parts, AreSplitLimitedAndEncoded) {
  const auto world = comm::Comm::world();
  std::string rows;
  for (int i = 0; i < 40; ++i) rows += std::to_string(i) + "," + std::to_string(i % 2) + "\n";
  const SharedFile file(world, rows);
  const Read read({{"format", "csv"},
                   {"file", file.path()},
                   {"classes", 2},
                   {"split", SettingTable{{"train", 0.75}, {"validation", 0.25}}},
                   {"limit", SettingTable{{"train", 5}}}});
  const auto parts = read_parts(world, "dataset.a", read.made);
  EXPECT_EQ(parts.part(Part::kAll)->size(), 40);
  EXPECT_EQ(parts.part(Part::kTrain)->size(), 10);
  EXPECT_EQ(parts.part(Part::kValidation)->size(), 10);
  EXPECT_EQ(parts.part(Part::kTest), nullptr);
  EXPECT_EQ(parts.fingerprint.size(), 64U);
  double sum = 0;
  std::array<float, 1> value{};
  for (std::int64_t i = 0; i < 10; ++i) {
    parts.part(Part::kTrain)->get(i, value);
    sum += static_cast<double>(value[0]);
  }
  EXPECT_NEAR(sum, 0, 1e-4);  // of the training part, not of all
}

TEST(Parts, OfATextAreRunsWithAGap) {
  const auto world = comm::Comm::world();
  const SharedFile file(world, "abcdefghijklmnopqrstuvwxyz");
  const Read read({{"format", "text"},
                   {"file", file.path()},
                   {"classes", 26},
                   {"context", 4},
                   {"stride", 2},
                   {"split", SettingTable{{"train", 0.5}, {"validation", 0.5}}}});
  const auto parts = read_parts(world, "dataset.a", read.made);
  std::array<float, 4> window{};
  const auto& train = *parts.part(Part::kTrain);
  train.get(train.size() - 1, window);
  const float last = window[3];
  parts.part(Part::kValidation)->get(0, window);
  EXPECT_GT(window[0], last);
  EXPECT_EQ(parts.encoding().vocabulary.size(), 26U);
  EXPECT_EQ(parts.encoding().normalisation.scale, 1.0);
}

}  // namespace
}  // namespace impart::data

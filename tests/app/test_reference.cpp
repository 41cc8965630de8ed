// impart help: what it prints, and the page that it has written.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <string>

#include "impart/app/reference.hpp"
#include "impart/core/error.hpp"
#include "impart/core/files.hpp"

namespace impart::app {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(Reference, ThePageIsWhatTheProgramSays) {
  const auto page = read_file(IMPART_REFERENCE_PAGE, std::numeric_limits<std::uintmax_t>::max());
  EXPECT_TRUE(page == reference_page()) << "inputs/README.md is not what `impart help --markdown` writes";
}

TEST(Reference, EverySettingSaysWhatItIs) {
  for (const auto& topic : topics()) {
    EXPECT_FALSE(topic.text.empty()) << topic.name;
    for (const auto& kind : topic.kinds) {
      EXPECT_FALSE(kind.text.empty()) << topic.name << ' ' << kind.name;
      for (const auto& setting : kind.settings) {
        EXPECT_FALSE(setting.text.empty()) << kind.name << '.' << setting.key;
        EXPECT_FALSE(setting.type.empty()) << kind.name << '.' << setting.key;
      }
    }
  }
}

/// Each setting that names a topic of its own can be looked up there.
TEST(Reference, TopicsThatSettingsNameExist) {
  for (const auto& topic : topics()) {
    for (const auto& kind : topic.kinds) {
      for (const auto& setting : kind.settings) {
        if (!setting.topic.empty()) {
          EXPECT_NO_THROW(help(setting.topic)) << kind.name << '.' << setting.key;
        }
      }
    }
  }
}

TEST(Reference, TellsATopicOrAKind) {
  EXPECT_THAT(help(""), AllOf(HasSubstr("optimizer"), HasSubstr("adamw")));
  EXPECT_THAT(help("optimizer"), AllOf(HasSubstr("optimizer sgd: "), HasSubstr("optimizer lamb: ")));
  const auto adam = help("optimizer.adam");
  EXPECT_THAT(adam, AllOf(HasSubstr("beta1"), HasSubstr("0.9 "), Not(HasSubstr("momentum"))));
  EXPECT_EQ(adam, help("adam"));
  EXPECT_THAT(help("federate"),
              AllOf(HasSubstr("clients"), HasSubstr("as every stage:"), HasSubstr("ranks")));
}

TEST(Reference, AnUnknownWordHasItsNearest) {
  try {
    help("optimiser");
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    EXPECT_THAT(e.what(), AllOf(HasSubstr("no help on 'optimiser'"), HasSubstr("did you mean 'optimizer'?")));
  }
}

}  // namespace
}  // namespace impart::app

#include "impart/core/files.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "impart/core/error.hpp"

namespace impart {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

class Files : public ::testing::Test {
 protected:
  Files() { fs::create_directories(directory_); }
  ~Files() override { fs::remove_all(directory_); }

  [[nodiscard]] std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(directory_), fs::directory_iterator()));
  }

  const fs::path directory_ = fs::temp_directory_path() / ("impart_files." + std::to_string(::getpid()));
  const fs::path path_ = directory_ / "a.json";
};

template <class Do>
std::string complaint(Do&& task) {
  try {
    task();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST_F(Files, AreReadBackAsTheyWereWritten) {
  const std::string text("one\0two\n", 8);
  write_file_atomically(path_, "older and longer");
  write_file_atomically(path_, text);
  EXPECT_EQ(read_file(path_, 8), text);
  EXPECT_EQ(entries(), 1U);
  write_file_atomically(path_, "");
  EXPECT_EQ(read_file(path_, 0), "");
}

TEST_F(Files, WithoutADirectoryAreOfTheWorkingDirectory) {
  const auto before = fs::current_path();
  fs::current_path(directory_);
  write_file_atomically("b", "x");
  fs::current_path(before);
  EXPECT_EQ(read_file(directory_ / "b", 1), "x");
}

TEST_F(Files, WhatFailsLeavesTheOldFileAndNothingElse) {
  write_file_atomically(path_, "old");
  {
    AtomicFile file(path_);
    file.write(std::as_bytes(std::span("new", 3)));
    file.flush();
    EXPECT_EQ(read_file(file.temporary(), 3), "new");
  }
  EXPECT_EQ(read_file(path_, 3), "old");
  EXPECT_EQ(entries(), 1U);
  EXPECT_THAT(complaint([&] { write_file_atomically(directory_ / "none" / "a", "x"); }),
              AllOf(HasSubstr("none/a: cannot be written"), HasSubstr("No such file or directory")));
  fs::create_directory(directory_ / "taken");
  EXPECT_THAT(complaint([&] { write_file_atomically(directory_ / "taken", "x"); }),
              HasSubstr("taken: cannot be given its name: got Is a directory"));
  EXPECT_EQ(entries(), 2U);
}

TEST_F(Files, LargerThanTheProcessMayWriteAreRefusedInOneLine) {
  write_file_atomically(path_, "old");
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {1000, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto said = complaint([&] { write_file_atomically(path_, std::string(5000, 'x')); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(said,
              AllOf(HasSubstr("a.json: cannot be written: got File too large"), HasSubstr("ulimit -f")));
  EXPECT_EQ(read_file(path_, 3), "old");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(Files, WhatIsNoFileOrTooLargeIsNotRead) {
  write_file_atomically(path_, "1234");
  EXPECT_THAT(complaint([&] { read_file(path_, 3); }),
              HasSubstr("a.json: the file is too large: expected at most 3 bytes, got 4"));
  EXPECT_THAT(complaint([&] { read_file(directory_ / "none", 9); }), HasSubstr("No such file"));
  EXPECT_THAT(complaint([&] { read_file(directory_, 9); }), HasSubstr("got a directory"));
  fs::create_symlink("/dev/zero", directory_ / "zero");
  EXPECT_THAT(complaint([&] { read_file(directory_ / "zero", 9); }), HasSubstr("got a device"));
  fs::create_symlink("loop", directory_ / "loop");
  EXPECT_THAT(complaint([&] { read_file(directory_ / "loop", 9); }), HasSubstr("symbolic links"));
  ASSERT_EQ(mkfifo((directory_ / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(complaint([&] { read_file(directory_ / "pipe", 9); }), HasSubstr("got a pipe"));
  EXPECT_THAT(read_file("/proc/self/status", 1 << 20), HasSubstr("Name:"));  // says that it is empty
}

}  // namespace
}  // namespace impart

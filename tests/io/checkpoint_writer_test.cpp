#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "impart/io/checkpoint.hpp"
#include "io/support.hpp"

namespace impart::io {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A full disk, as far as a process can tell: no file may grow beyond `bytes`.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit before_{};
};

std::ptrdiff_t open_files() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                       std::filesystem::directory_iterator());
}

TEST(WriteCheckpoint, FullDiskLeavesTheOldFileAlone) {
  const ScratchDirectory scratch;
  auto good = sample_checkpoint();
  write_checkpoint(scratch / "model.h5", good);
  const auto open_before = open_files();
  const auto before = read_bytes(scratch / "model.h5");
  for (const rlim_t limit : {0UL, 100UL, 2048UL, 5000UL, before.size() - 1}) {
    auto next = sample_checkpoint(2);
    std::string error;
    {
      const FileSizeLimit full(limit);
      error = error_of([&] { write_checkpoint(scratch / "model.h5", next); });
    }
    EXPECT_THAT(error, AllOf(HasSubstr("model.h5"), HasSubstr("File too large"))) << limit;
    EXPECT_EQ(read_bytes(scratch / "model.h5"), before);
    EXPECT_EQ(scratch.entries(), 1U) << "a temporary file was left";
  }
  auto next = sample_checkpoint(3);
  write_checkpoint(scratch / "model.h5", next);
  EXPECT_EQ(read_checkpoint(scratch / "model.h5").digest, next.digest)
      << "writing works again after a full disk";
  EXPECT_EQ(open_files(), open_before);
}

TEST(WriteCheckpoint, ADirectoryThatCannotBeWritten) {
  const ScratchDirectory scratch;
  auto checkpoint = sample_checkpoint();
  EXPECT_THAT(error_of([&] { write_checkpoint(scratch / "none/model.h5", checkpoint); }),
              AllOf(HasSubstr("none/model.h5"), HasSubstr("No such file or directory")));
  write_bytes(scratch / "file", "");
  EXPECT_THAT(error_of([&] { write_checkpoint(scratch / "file/model.h5", checkpoint); }),
              HasSubstr("Not a directory"));
  // Root may write where others may not; /proc refuses everybody.
  EXPECT_THAT(error_of([&] { write_checkpoint("/proc/model.h5", checkpoint); }), HasSubstr("/proc/model.h5"));
}

TEST(WriteCheckpoint, AReadOnlyDirectory) {
  const ScratchDirectory scratch;
  auto checkpoint = sample_checkpoint();
  ::chmod(scratch.path().c_str(), 0555);
  const auto user = ::geteuid();
  constexpr uid_t kNobody = 65534;  // root may write everywhere
  ASSERT_EQ(::seteuid(user == 0 ? kNobody : user), 0);
  const auto error = error_of([&] { write_checkpoint(scratch / "model.h5", checkpoint); });
  ASSERT_EQ(::seteuid(user), 0);
  ::chmod(scratch.path().c_str(), 0755);
  EXPECT_THAT(error, HasSubstr("Permission denied"));
}

TEST(WriteCheckpoint, ATargetThatIsADirectory) {
  const ScratchDirectory scratch;
  std::filesystem::create_directory(scratch / "model.h5");
  auto checkpoint = sample_checkpoint();
  EXPECT_THAT(error_of([&] { write_checkpoint(scratch / "model.h5", checkpoint); }), HasSubstr("directory"));
  EXPECT_EQ(scratch.entries(), 1U);
}

TEST(WriteCheckpoint, ARelativePathWithoutDirectory) {
  const ScratchDirectory scratch;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(scratch.path());
  auto checkpoint = sample_checkpoint();
  const auto error = error_of([&] { write_checkpoint("model.h5", checkpoint); });
  std::filesystem::current_path(before);
  EXPECT_EQ(error, "");
  EXPECT_TRUE(std::filesystem::exists(scratch / "model.h5"));
}

TEST(ReadNewest, TakesTheNewestByStep) {
  const ScratchDirectory scratch;
  for (const std::int64_t step : {90, 100, 99}) {
    auto checkpoint = sample_checkpoint(static_cast<float>(step), step);
    write_checkpoint(scratch / ("step-" + std::to_string(step) + ".h5"), checkpoint);
  }
  write_bytes(scratch / "step-x.h5", "");
  write_bytes(scratch / ".step-00000200.h5.1234-0.tmp", "left by a process that died");
  const auto newest = read_newest(scratch.path());
  ASSERT_TRUE(newest);
  EXPECT_EQ(newest->first.filename(), "step-100.h5");
  EXPECT_EQ(newest->second.progress->step, 100);
}

TEST(ReadNewest, PassesOverDamagedFiles) {
  const ScratchDirectory scratch;
  for (const std::int64_t step : {1, 2, 3}) {
    auto checkpoint = sample_checkpoint(1, step);
    write_checkpoint(scratch / ("step-0000000" + std::to_string(step) + ".h5"), checkpoint);
  }
  write_bytes(scratch / "step-00000003.h5", read_bytes(scratch / "step-00000003.h5").substr(0, 3000));
  auto bytes = read_bytes(scratch / "step-00000002.h5");
  const float needle = 1.0F + 12 + 0.25F;  // the first value of conv1.weight
  const auto at = bytes.find(std::string(reinterpret_cast<const char*>(&needle), sizeof needle));
  ASSERT_NE(at, std::string::npos);
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  write_bytes(scratch / "step-00000002.h5", bytes);

  testing::internal::CaptureStderr();
  const auto newest = read_newest(scratch.path());
  const auto log = testing::internal::GetCapturedStderr();
  ASSERT_TRUE(newest);
  EXPECT_EQ(newest->first.filename(), "step-00000001.h5");
  EXPECT_THAT(log, AllOf(HasSubstr("warning"), HasSubstr("step-00000003.h5"), HasSubstr("step-00000002.h5")));
}

TEST(ReadNewest, NothingToRead) {
  const ScratchDirectory scratch;
  EXPECT_FALSE(read_newest(scratch / "none"));
  EXPECT_FALSE(read_newest(scratch.path()));
  write_bytes(scratch / "step-00000001.h5", "damaged");
  EXPECT_FALSE(read_newest(scratch.path()));
}

TEST(CheckpointWriter, KeepsTheNewest) {
  const ScratchDirectory scratch;
  const auto directory = scratch / "deep/state";
  CheckpointWriter writer(2);
  for (const std::int64_t step : {10, 20, 30, 40}) writer.submit(directory, sample_checkpoint(1, step));
  writer.finish();
  EXPECT_FALSE(std::filesystem::exists(directory / "step-00000010.h5"));
  EXPECT_FALSE(std::filesystem::exists(directory / "step-00000020.h5"));
  EXPECT_TRUE(std::filesystem::exists(directory / "step-00000030.h5"));
  EXPECT_EQ(read_newest(directory)->second.progress->step, 40);
}

TEST(CheckpointWriter, NeverRemovesWhatItHasJustWritten) {
  const ScratchDirectory scratch;
  CheckpointWriter writer(1);
  writer.submit(scratch.path(), sample_checkpoint(1, 50));
  writer.submit(scratch.path(), sample_checkpoint(1, 20));
  writer.finish();
  EXPECT_TRUE(std::filesystem::exists(scratch / "step-00000020.h5"));
}

TEST(CheckpointWriter, RemovesWhatDeadProcessesLeft) {
  const ScratchDirectory scratch;
  const auto old = scratch / ".step-00000010.h5.1234-0.tmp";
  for (const auto& path : {old, scratch / ".step-00000011.h5.1234-1.tmp", scratch / ".notes.tmp"})
    write_bytes(path, "x");
  const auto yesterday = std::filesystem::file_time_type::clock::now() - std::chrono::hours(24);
  std::filesystem::last_write_time(old, yesterday);
  std::filesystem::last_write_time(scratch / ".notes.tmp", yesterday);
  CheckpointWriter writer;
  writer.submit(scratch.path(), sample_checkpoint());
  writer.finish();
  EXPECT_FALSE(std::filesystem::exists(old));
  EXPECT_TRUE(std::filesystem::exists(scratch / ".step-00000011.h5.1234-1.tmp")) << "may still be written";
  EXPECT_TRUE(std::filesystem::exists(scratch / ".notes.tmp")) << "is not ours";
}

TEST(CheckpointWriter, ErrorsComeWithTheNextCall) {
  const ScratchDirectory scratch;
  write_bytes(scratch / "file", "");
  CheckpointWriter writer;
  writer.submit(scratch / "file", sample_checkpoint());
  EXPECT_THAT(error_of([&] { writer.submit(scratch.path(), sample_checkpoint()); }), HasSubstr("file"));
  EXPECT_EQ(error_of([&] { writer.finish(); }), "") << "an error is thrown once";
  writer.submit(scratch / "file", sample_checkpoint());
  EXPECT_THAT(error_of([&] { writer.finish(); }), HasSubstr("file"));
}

TEST(CheckpointWriter, TheDestructorWaitsAndLogs) {
  const ScratchDirectory scratch;
  {
    CheckpointWriter writer;
    writer.submit(scratch.path(), sample_checkpoint(1, 5));
  }
  EXPECT_EQ(read_checkpoint(scratch / "step-00000005.h5").progress->step, 5);
  write_bytes(scratch / "file", "");
  testing::internal::CaptureStderr();
  {
    CheckpointWriter writer;
    writer.submit(scratch / "file", sample_checkpoint());
  }
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("error"));
}

TEST(CheckpointWriter, RefusesWhatItCannotDo) {
  EXPECT_THAT(error_of([] { const CheckpointWriter writer(0); }), HasSubstr("at least 1"));
  const ScratchDirectory scratch;
  CheckpointWriter writer;
  auto checkpoint = sample_checkpoint();
  checkpoint.progress.reset();
  EXPECT_THAT(error_of([&] { writer.submit(scratch.path(), std::move(checkpoint)); }), HasSubstr("progress"));
}

// The writer's thread and a reader use the library at once.
TEST(CheckpointWriter, ReadingWhileWriting) {
  const ScratchDirectory scratch;
  auto other = sample_checkpoint(9);
  write_checkpoint(scratch / "other.h5", other);
  CheckpointWriter writer(3);
  for (std::int64_t step = 1; step <= 10; ++step) {
    writer.submit(scratch.path(), sample_checkpoint(1, step));
    EXPECT_EQ(read_checkpoint(scratch / "other.h5").digest, other.digest);
    EXPECT_NE(error_of([&] { static_cast<void>(read_checkpoint(scratch / "none.h5")); }), "");
  }
  writer.finish();
}

}  // namespace
}  // namespace impart::io

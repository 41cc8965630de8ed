#include "impart/core/log.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "impart/core/error.hpp"
#include "impart/core/progress.hpp"

namespace impart {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::MatchesRegex;

std::string captured(const std::function<void()>& work) {
  testing::internal::CaptureStderr();
  work();
  return testing::internal::GetCapturedStderr();
}

void speak() {
  log::info("reading 8000 samples {}");
  log::warn("slow");
  log::error("full");
}

/// Longer than the pause between two drawings of a bar, shorter than that between plain lines.
constexpr std::chrono::milliseconds kPause{250};

TEST(Log, AloneItSpeaksWithoutATag) {
  log::configure(0, 1);
  EXPECT_EQ(captured(speak), "reading 8000 samples {}\nwarning: slow\nerror: full\n");
}

TEST(Log, OnlyTheFirstRankInforms) {
  log::configure(0, 4);
  EXPECT_EQ(captured(speak), "reading 8000 samples {}\n[rank 0] warning: slow\n[rank 0] error: full\n");
  log::configure(3, 4);
  EXPECT_EQ(captured(speak), "[rank 3] warning: slow\n[rank 3] error: full\n");
  log::configure(0, 1);
}

TEST(Progress, ParsesItsModes) {
  EXPECT_EQ(parse_progress_mode("auto"), ProgressMode::kAuto);
  EXPECT_EQ(parse_progress_mode("bar"), ProgressMode::kBar);
  EXPECT_EQ(parse_progress_mode("plain"), ProgressMode::kPlain);
  EXPECT_EQ(parse_progress_mode("none"), ProgressMode::kNone);
  try {
    (void)parse_progress_mode("fancy");
    FAIL() << "an unknown word";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(),
                 "--progress: unknown progress mode: expected auto, bar, plain or none, got 'fancy'");
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
  }
}

TEST(Progress, BarShowsRateAndTimeLeftAndClearsItsLine) {
  const auto text = captured([] {
    ProgressLine line(ProgressMode::kBar, "teacher", "samples", 1000);
    line.update(0, "");
    std::this_thread::sleep_for(kPause);
    line.update(250, "epoch 1/4");
  });
  // 250 samples in 0.25 s or a little more: at most 1000 a second, and so at least 0.75 s left.
  EXPECT_THAT(
      text, MatchesRegex("\r\033\\[Kteacher \\[######\\.+\\]  25%  epoch 1/4  [0-9]+ samples/s  0:0[1-9] left"
                         "\r\033\\[K"));
}

TEST(Progress, RateLeavesOutWhatWasDoneBefore) {
  const auto text = captured([] {
    ProgressLine line(ProgressMode::kBar, "resumed", "samples", 1000000);
    line.update(900000, "");
    std::this_thread::sleep_for(kPause);
    line.update(900100, "");
  });
  const auto rate_end = text.find(" samples/s");
  ASSERT_NE(rate_end, std::string::npos) << text;
  const auto rate_begin = text.rfind(' ', rate_end - 1) + 1;
  const int rate = std::stoi(text.substr(rate_begin, rate_end - rate_begin));
  EXPECT_GT(rate, 0);
  EXPECT_LE(rate, 400) << "100 samples in 0.25 s";
}

TEST(Progress, OfSlowUnitsTheRateIsTheirNumberInALongerTime) {
  const auto shown = [](std::int64_t done, std::int64_t total) {
    return captured([&] {
      ProgressLine line(ProgressMode::kBar, "federation", "rounds", total);
      line.update(0, "");
      std::this_thread::sleep_for(std::chrono::milliseconds(1250));
      line.update(done, "round");
    });
  };
  // 2 in 1.25 s, 1.6 a second; 1 in 1.25 s, 48 a minute.
  EXPECT_THAT(shown(2, 10), ContainsRegex("20%  round  1\\.[0-9] rounds/s  0:0[56] left"));
  EXPECT_THAT(shown(1, 5), ContainsRegex("20%  round  4[0-9]\\.[0-9] rounds/min  0:0[56] left"));
  EXPECT_THAT(shown(0, 5), MatchesRegex("\r\033\\[Kfederation \\[\\.+\\]   0%  round\r\033\\[K"));
}

TEST(Progress, ShortLoopsAreSilentWithoutATerminal) {
  for (const auto mode : {ProgressMode::kPlain, ProgressMode::kAuto, ProgressMode::kNone}) {
    EXPECT_EQ(captured([mode] {
                ProgressLine line(mode, "teacher", "samples", 100);
                for (int i = 0; i <= 100; ++i) line.update(i, "");
              }),
              "");
  }
}

TEST(Progress, PlainLinesAreWholeLines) {
  const auto text = captured([] {
    ProgressLine line(ProgressMode::kPlain, "teacher", "samples", 1000);
    line.update(0, "");
    std::this_thread::sleep_for(std::chrono::milliseconds(5100));
    line.update(500, "epoch 2/4 loss 0.31");
    line.update(501, "epoch 2/4 loss 0.30");
  });
  EXPECT_THAT(text, MatchesRegex("teacher  50%  epoch 2/4 loss 0.31  [0-9]+ samples/s  0:0[5-9] left\n"));
}

}  // namespace
}  // namespace impart

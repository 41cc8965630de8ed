#include "impart/core/log.hpp"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace impart::log {

namespace {

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = spdlog::stderr_logger_mt("impart");
    made->set_pattern("%v");
    return made;
  }();
  return *instance;
}

struct Speaker {
  int rank = 0;
  int size = 1;
};

Speaker& speaker() {
  static Speaker instance;
  return instance;
}

std::string tagged(std::string_view level, std::string_view line) {
  const auto [rank, size] = speaker();
  return size > 1 ? fmt::format("[rank {}] {}: {}", rank, level, line) : fmt::format("{}: {}", level, line);
}

}  // namespace

void configure(int rank, int size) { speaker() = {rank, size}; }

void info(std::string_view line) {
  if (speaker().rank == 0) logger().info("{}", line);
}

void warn(std::string_view line) { logger().warn("{}", tagged("warning", line)); }

void error(std::string_view line) { logger().error("{}", tagged("error", line)); }

}  // namespace impart::log

// DirectoryLock: one run at a time in a run directory.
#pragma once

#include <filesystem>

namespace impart::runner {

/// Two runs in one directory would write the same files. The kernel lets go of the lock when the process
/// ends, however it ends, so that a killed run stands in nobody's way.
class DirectoryLock {
 public:
  DirectoryLock() = default;
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;
  ~DirectoryLock();

  /// Throws Error (usage) when another process holds `directory`. On a file system without locks it does
  /// nothing.
  void take(const std::filesystem::path& directory);

 private:
  int file_ = -1;
};

}  // namespace impart::runner

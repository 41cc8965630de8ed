#include "runner/directory_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "impart/core/error.hpp"

namespace impart::runner {

DirectoryLock::~DirectoryLock() {
  if (file_ >= 0) ::close(file_);
}

void DirectoryLock::take(const std::filesystem::path& directory) {
  file_ = ::open((directory / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file_ >= 0 && ::flock(file_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    throw Error("another run is using this directory", ErrorKind::kUsage)
        .at(directory.string())
        .hint("wait until it has ended, or give another --output");
  }
}

}  // namespace impart::runner

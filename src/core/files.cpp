#include "impart/core/files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "impart/core/error.hpp"

namespace impart {

namespace {

namespace fs = std::filesystem;

// Of the last call that failed.
Error failure(const char* what) {
  const int code = errno;
  auto error = Error(what).got(std::strerror(code));
  if (code == ENOSPC || code == EDQUOT) return std::move(error).hint("free some space");
  if (code == EFBIG) return std::move(error).hint("raise `ulimit -f`");
  if (code == EACCES || code == EPERM || code == EROFS) return std::move(error).hint("check permissions");
  return error;
}

fs::path directory_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

fs::path hidden_name(const fs::path& path) {
  static std::atomic<int> count{0};
  return directory_of(path) / fmt::format(".{}.{}-{}.tmp", path.filename().string(), ::getpid(), count++);
}

class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags) : value_(::open(path.c_str(), flags | O_CLOEXEC)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  [[nodiscard]] int get() const noexcept { return value_; }

 private:
  int value_;
};

// What a directory says is on disk only when it has been flushed itself.
void sync_directory(const fs::path& directory) {
  const Descriptor open(directory, O_RDONLY | O_DIRECTORY);
  // Some file systems of networks cannot flush a directory, and need not.
  if (open.get() < 0 || (::fsync(open.get()) != 0 && errno != EINVAL))
    throw failure("cannot flush the directory");
}

std::string_view kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

Error too_large(std::uintmax_t limit) {
  return Error("the file is too large").expected(fmt::format("at most {} bytes", limit));
}

std::string read_regular(const fs::path& path, std::uintmax_t limit) {
  const Descriptor file(path, O_RDONLY | O_NONBLOCK);  // a pipe that nobody writes to would be waited for
  if (file.get() < 0) throw failure("cannot be read");
  struct stat status = {};
  if (::fstat(file.get(), &status) != 0) throw failure("cannot be read");
  if (!S_ISREG(status.st_mode))
    throw Error("cannot be read").expected("a regular file").got(std::string(kind_of(status.st_mode)));
  if (std::cmp_greater(status.st_size, limit)) throw too_large(limit).got(std::to_string(status.st_size));
  // Some files, as those of /proc, hold more than they say, and others grow.
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t size = 0;
  for (;;) {
    if (size == text.size()) text.resize(size + 4096);
    const auto count = ::read(file.get(), text.data() + size, text.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw failure("cannot be read");
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
    if (size > limit) throw too_large(limit);
  }
  text.resize(size);
  return text;
}

}  // namespace

AtomicFile::AtomicFile(fs::path path)
    : path_(std::move(path)),
      temporary_(hidden_name(path_)),
      descriptor_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) throw failure("cannot be written");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!committed_) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw failure("cannot be written");
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void AtomicFile::flush() {
  if (descriptor_ < 0) return;
  if (::fsync(descriptor_) != 0) throw failure("cannot be flushed to disk");
  if (::close(std::exchange(descriptor_, -1)) != 0) throw failure("cannot be written");
}

void AtomicFile::commit() {
  flush();
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) throw failure("cannot be given its name");
  committed_ = true;
  sync_directory(directory_of(path_));
}

void write_file_atomically(const fs::path& path, std::span<const std::byte> bytes) {
  try {
    AtomicFile file(path);
    file.write(bytes);
    file.commit();
  } catch (Error& e) {
    e.at(path.string());
    throw;
  }
}

void write_file_atomically(const fs::path& path, std::string_view text) {
  write_file_atomically(path, std::as_bytes(std::span(text.data(), text.size())));
}

std::string read_file(const fs::path& path, std::uintmax_t limit) {
  try {
    return read_regular(path, limit);
  } catch (Error& e) {
    e.at(path.string());
    throw;
  }
}

}  // namespace impart

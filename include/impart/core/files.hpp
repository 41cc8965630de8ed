// Files that are complete or absent, and reading that ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace impart {

/// A file that appears under its name whole, or not at all: it is written under a hidden name in the same
/// directory, flushed to disk, and renamed. All throw Error, without the path, which the caller may add: a full
/// disk, a quota and `ulimit -f` end so too (the last where SIGXFSZ is ignored).
class AtomicFile {
 public:
  /// Creates the hidden file.
  explicit AtomicFile(std::filesystem::path path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  /// Removes the hidden file, unless `commit` has succeeded.
  ~AtomicFile();

  /// Appends.
  void write(std::span<const std::byte> bytes);
  /// All that was written is on disk, under `temporary`. No `write` after it.
  void flush();
  /// Flushes if need be, and gives the file its name, in place of an older one. The name is on disk, too.
  void commit();

  /// ".NAME.PROCESS-COUNT.tmp": left behind only by a process that was killed.
  [[nodiscard]] const std::filesystem::path& temporary() const noexcept { return temporary_; }

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
  bool committed_ = false;
};

/// `bytes` as an AtomicFile. Throws Error, at `path`.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);
void write_file_atomically(const std::filesystem::path& path, std::string_view text);

/// The whole of a regular file of at most `limit` bytes. Throws Error, at `path`, for anything else: a
/// directory, a device or a pipe might never end.
std::string read_file(const std::filesystem::path& path, std::uintmax_t limit);

}  // namespace impart

// ByteStream: the bytes of a file, plain or gzip, read once from front to back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

namespace impart::io {

/// A file whose name ends in ".gz" is unpacked on the way. Every Error names the file. Not thread-safe.
class ByteStream {
 public:
  explicit ByteStream(const std::filesystem::path& path);
  ByteStream(ByteStream&& other) noexcept;
  ByteStream& operator=(ByteStream&& other) noexcept;
  ~ByteStream();

  /// Fills `bytes` as far as the file reaches; less than all of it only at the end. Throws Error for a gzip
  /// file that is cut off, fails its checksum or is followed by other bytes.
  std::size_t read_some(std::span<std::byte> bytes);
  /// Fills `bytes` or throws Error; `what` is being read: "image data".
  void read(std::span<std::byte> bytes, const char* what);
  /// Throws Error unless all has been read; `what` came last.
  void expect_end(const char* what);

  /// The exact number of bytes that a plain file holds, and a number that a .gz file cannot exceed.
  [[nodiscard]] std::uintmax_t most_bytes() const noexcept;
  [[nodiscard]] bool is_packed() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Throws Error unless the file can hold `claimed` bytes, as its own header says: exactly so many when it is
/// plain, at most deflate's largest expansion of its size when packed. `claim` in words: "10000 images of
/// 28x28".
void require_plausible(const ByteStream& stream, const std::filesystem::path& path, std::uintmax_t claimed,
                       const std::string& claim);

}  // namespace impart::io

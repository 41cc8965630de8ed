#include "io/byte_stream.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "impart/core/error.hpp"

namespace impart::io {

namespace {

constexpr std::size_t kBufferBytes = 256 * 1024;
// Deflate's best case: a match of 258 bytes takes two bits.
constexpr std::uintmax_t kMaxExpansion = 1032;
constexpr int kGzipOnly = 16 + MAX_WBITS;

}  // namespace

struct ByteStream::Impl {
  explicit Impl(const std::filesystem::path& file) : path(file.string()), packed(file.extension() == ".gz") {
    // A pipe that nobody writes to must not be waited for: it is refused below.
    descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) throw Error("cannot open the file").at(path).got(std::strerror(errno));
    struct stat status {};
    if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
      ::close(descriptor);
      throw Error("cannot read the file").at(path).expected("a regular file");
    }
    size = static_cast<std::uintmax_t>(status.st_size);
    if (packed) inflateInit2(&inflater, kGzipOnly);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    if (packed) inflateEnd(&inflater);
    ::close(descriptor);
  }

  std::size_t read_file(std::byte* target, std::size_t count) const {
    for (;;) {
      const auto got = ::read(descriptor, target, count);
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EINTR) throw Error("cannot read the file").at(path).got(std::strerror(errno));
    }
  }

  // Makes at least one packed byte available, unless the file has ended.
  void refill() {
    if (inflater.avail_in != 0) return;
    inflater.next_in = reinterpret_cast<Bytef*>(buffer.data());
    inflater.avail_in = static_cast<uInt>(read_file(buffer.data(), buffer.size()));
  }

  // Between the members of a gzip file: true when another begins. Anything else is no gzip.
  bool next_member() {
    refill();
    if (inflater.avail_in == 0) return false;
    if (*inflater.next_in != 0x1F) {
      throw Error("bytes follow the end of the gzip data")
          .at(path)
          .hint("the file was appended to or damaged: fetch it again");
    }
    inflateReset(&inflater);
    return true;
  }

  std::size_t unpack(std::span<std::byte> bytes) {
    inflater.next_out = reinterpret_cast<Bytef*>(bytes.data());
    inflater.avail_out = static_cast<uInt>(bytes.size());
    while (inflater.avail_out != 0 && !ended) {
      refill();
      const int status = inflate(&inflater, Z_NO_FLUSH);
      if (status == Z_STREAM_END) {
        ended = !next_member();
      } else if (status == Z_BUF_ERROR && inflater.avail_in == 0) {
        throw Error("the gzip file is cut off").at(path).hint("fetch it again");
      } else if (status != Z_OK) {
        throw Error("the gzip file is damaged")
            .at(path)
            .got(inflater.msg != nullptr ? inflater.msg : zError(status))
            .hint("fetch it again; a file that is not packed must not be named .gz");
      }
    }
    return bytes.size() - inflater.avail_out;
  }

  std::string path;
  bool packed = false;
  bool ended = false;  // of a packed file: the last member is complete
  int descriptor = -1;
  std::uintmax_t size = 0;
  z_stream inflater{};
  std::vector<std::byte> buffer = std::vector<std::byte>(packed ? kBufferBytes : 0);
};

ByteStream::ByteStream(const std::filesystem::path& path) : impl_(std::make_unique<Impl>(path)) {}
ByteStream::ByteStream(ByteStream&&) noexcept = default;
ByteStream& ByteStream::operator=(ByteStream&&) noexcept = default;
ByteStream::~ByteStream() = default;

std::size_t ByteStream::read_some(std::span<std::byte> bytes) {
  // zlib counts in 32 bits.
  constexpr std::size_t most_at_once = std::size_t{1} << 30;
  std::size_t done = 0;
  while (done < bytes.size()) {
    const auto part = bytes.subspan(done, std::min(most_at_once, bytes.size() - done));
    const auto got = impl_->packed ? impl_->unpack(part) : impl_->read_file(part.data(), part.size());
    if (got == 0) break;
    done += got;
  }
  return done;
}

void ByteStream::read(std::span<std::byte> bytes, const char* what) {
  const auto got = read_some(bytes);
  if (got == bytes.size()) return;
  throw Error(fmt::format("the file ends within its {}", what))
      .at(impl_->path)
      .expected(fmt::format("{} bytes of it", bytes.size()))
      .got(std::to_string(got));
}

void ByteStream::expect_end(const char* what) {
  std::array<std::byte, 1> extra;
  if (read_some(extra) != 0) throw Error(fmt::format("bytes follow the {}", what)).at(impl_->path);
}

std::uintmax_t ByteStream::most_bytes() const noexcept {
  return impl_->packed ? impl_->size * kMaxExpansion : impl_->size;
}

bool ByteStream::is_packed() const noexcept { return impl_->packed; }

void require_plausible(const ByteStream& stream, const std::filesystem::path& path, std::uintmax_t claimed,
                       const std::string& claim) {
  const auto most = stream.most_bytes();
  if (stream.is_packed() ? claimed <= most : claimed == most) return;
  if (stream.is_packed()) {
    throw Error(fmt::format("the header claims {}, more than a gzip file of this size can hold", claim))
        .at(path.string())
        .expected(fmt::format("at most {} bytes", most))
        .got(fmt::format("{}", claimed));
  }
  throw Error(
      fmt::format("the file is {} than its header says ({})", most < claimed ? "shorter" : "longer", claim))
      .at(path.string())
      .expected(fmt::format("{} bytes", claimed))
      .got(fmt::format("{}", most));
}

}  // namespace impart::io

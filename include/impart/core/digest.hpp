// Digest: BLAKE2b-256, the name of everything that impart stores.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace impart {

/// 32 bytes; equal content has equal digests. Written as 64 lower-case hexadecimal digits.
struct Digest {
  std::array<std::uint8_t, 32> bytes{};

  [[nodiscard]] std::string hex() const;
  /// First 8 bytes as a number, for ordering and thresholds.
  [[nodiscard]] std::uint64_t prefix() const;

  friend auto operator<=>(const Digest&, const Digest&) = default;
};

/// Hashes a sequence of values (RFC 7693, through libsodium). Text is hashed with its length in front, so
/// that ("ab", "c") and ("a", "bc") differ.
class Hasher {
 public:
  Hasher();

  Hasher& bytes(std::span<const std::byte> data);
  Hasher& text(std::string_view text);
  Hasher& number(std::int64_t value);
  Hasher& floats(std::span<const float> values);  ///< little-endian
  [[nodiscard]] Digest finish();                  ///< ends this Hasher

 private:
  alignas(64) std::array<std::byte, 384> state_;
};

/// Digest of one tensor: name, extents, values.
Digest tensor_digest(std::string_view name, std::span<const std::int64_t> dims,
                     std::span<const float> values);

}  // namespace impart

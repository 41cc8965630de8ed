#include "impart/core/digest.hpp"

#include <sodium.h>

#include <bit>
#include <cstring>

namespace impart {

static_assert(std::endian::native == std::endian::little, "digests are defined over little-endian values");
static_assert(sizeof(crypto_generichash_state) <= 384);

namespace {

crypto_generichash_state* state_of(std::array<std::byte, 384>& storage) {
  return reinterpret_cast<crypto_generichash_state*>(storage.data());
}

}  // namespace

std::string Digest::hex() const {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (const auto b : bytes) {
    text += digits[b >> 4];
    text += digits[b & 15];
  }
  return text;
}

std::uint64_t Digest::prefix() const {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) value = value << 8 | bytes[i];
  return value;
}

Hasher::Hasher() : state_{} { crypto_generichash_init(state_of(state_), nullptr, 0, sizeof(Digest::bytes)); }

Hasher& Hasher::bytes(std::span<const std::byte> data) {
  crypto_generichash_update(state_of(state_), reinterpret_cast<const unsigned char*>(data.data()),
                            data.size());
  return *this;
}

Hasher& Hasher::text(std::string_view text) {
  number(static_cast<std::int64_t>(text.size()));
  return bytes(std::as_bytes(std::span(text)));
}

Hasher& Hasher::number(std::int64_t value) { return bytes(std::as_bytes(std::span(&value, 1))); }

Hasher& Hasher::floats(std::span<const float> values) { return bytes(std::as_bytes(values)); }

Digest Hasher::finish() {
  Digest digest;
  crypto_generichash_final(state_of(state_), digest.bytes.data(), digest.bytes.size());
  return digest;
}

Digest tensor_digest(std::string_view name, std::span<const std::int64_t> dims,
                     std::span<const float> values) {
  Hasher hasher;
  hasher.text(name).number(static_cast<std::int64_t>(dims.size()));
  for (const auto d : dims) hasher.number(d);
  return hasher.floats(values).finish();
}

}  // namespace impart

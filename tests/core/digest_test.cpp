#include "impart/core/digest.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace impart {
namespace {

Digest of_bytes(std::string_view text) { return Hasher().bytes(std::as_bytes(std::span(text))).finish(); }

// Known answers from Python's hashlib.blake2b(data, digest_size=32).
TEST(Digest, IsBlake2b256) {
  EXPECT_EQ(of_bytes("").hex(), "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
  EXPECT_EQ(of_bytes("abc").hex(), "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
  EXPECT_EQ(of_bytes("abc").prefix(), 0xbddd813c63423972ULL);
}

TEST(Digest, BytesMayComeInPieces) {
  const std::string text(1000, 'x');
  Hasher hasher;
  for (std::size_t i = 0; i < text.size(); i += 7)
    hasher.bytes(std::as_bytes(std::span(text).subspan(i, std::min<std::size_t>(7, text.size() - i))));
  EXPECT_EQ(hasher.finish(), of_bytes(text));
}

TEST(Digest, TextIsFramed) {
  EXPECT_NE(Hasher().text("ab").text("c").finish(), Hasher().text("a").text("bc").finish());
  EXPECT_NE(Hasher().text("").text("x").finish(), Hasher().text("x").text("").finish());
  EXPECT_EQ(Hasher().text("ab").finish(),
            Hasher().number(2).bytes(std::as_bytes(std::span("ab", 2))).finish());
}

TEST(Digest, TensorCoversNameShapeAndValues) {
  const std::array<float, 6> values{1, -2, 0.5F, 0, 3e-8F, 7};
  const std::array<std::int64_t, 2> dims{2, 3};
  const auto digest = tensor_digest("conv1.weight", dims, values);
  // As above, over <q length> name <q rank> <q dims> <f values>.
  EXPECT_EQ(digest.hex(), "22614ff41e56312ab6dc920469b6ba3a6a7a7b2df23a8cf8ad25b4d4c28bcf14");

  const std::array<std::int64_t, 2> turned{3, 2};
  auto changed = values;
  changed[3] = -0.0F;
  EXPECT_NE(tensor_digest("conv2.weight", dims, values), digest);
  EXPECT_NE(tensor_digest("conv1.weight", turned, values), digest);
  EXPECT_NE(tensor_digest("conv1.weight", dims, changed), digest) << "bits, not values";
}

TEST(Digest, OrdersAsItsHexDigitsDo) {
  const auto a = of_bytes("a");
  const auto b = of_bytes("b");
  EXPECT_EQ(a < b, a.hex() < b.hex());
  EXPECT_EQ(a < b, a.prefix() < b.prefix());
}

}  // namespace
}  // namespace impart

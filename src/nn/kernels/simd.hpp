// Vec: as many floats as one register of the instruction set that this file is compiled for holds.
//
// Everything is in an unnamed namespace: kernels.inl is compiled for several instruction sets, and functions
// that the linker merged could end up with instructions that the machine does not have.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace impart::nn {
namespace {

/// A float of this size has no fraction: the sum with it rounds a value to an integer, which is then in the
/// sum's lowest bits.
constexpr float kIntegerShift = 12582912.0F;  // 1.5 * 2^23

/// One float with the interface of Vec: what is left over at the end of a row.
struct One {
  static constexpr std::int64_t kWidth = 1;
  using Mask = bool;
  using Index = std::int32_t;
  float v;

  static One load(const float* p) { return {*p}; }
  /// Values `stride` floats apart.
  static One load_strided(const float* p, std::int32_t /*stride*/) { return {*p}; }
  static One set(float x) { return {x}; }
  static Index index(std::int32_t i) { return i; }
  static Index load_index(const std::uint8_t* p) { return *p; }
  static void store_index(std::uint8_t* p, Index i) { *p = static_cast<std::uint8_t>(i); }
  static Mask greater(One a, One b) { return a.v > b.v; }
  static Mask greater_or_nan(One a, One b) { return a.v > b.v || a.v != a.v; }
  static Mask not_positive(One a) { return a.v <= 0; }
  static Mask equal(Index a, Index b) { return a == b; }
  static One select(Mask m, One a, One b) { return m ? a : b; }
  static Index select(Mask m, Index a, Index b) { return m ? a : b; }
  static One fma(One a, One b, One c) { return {__builtin_fmaf(a.v, b.v, c.v)}; }
  /// The first n values; what is beyond is neither read (it becomes 0) nor written. REQUIRES: n >= 0.
  static One load_first(const float* p, std::int64_t n) { return {n > 0 ? *p : 0.0F}; }
  void store_first(float* p, std::int64_t n) const {
    if (n > 0) *p = v;
  }
  void store(float* p) const { *p = v; }
  friend One operator+(One a, One b) { return {a.v + b.v}; }
  friend One operator-(One a, One b) { return {a.v - b.v}; }
  friend One operator*(One a, One b) { return {a.v * b.v}; }
  friend One operator/(One a, One b) { return {a.v / b.v}; }
  /// 2^n, from n + kIntegerShift. REQUIRES: n is an integer from -126 to 127.
  static One power_of_two(One shifted) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &shifted.v, sizeof bits);
    bits = (bits << 23U) + 0x3F800000U;
    std::memcpy(&shifted.v, &bits, sizeof bits);
    return shifted;
  }
};

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

struct Vec {
  static constexpr std::int64_t kWidth = 16;
  static constexpr int kRegisters = 32;
  using Mask = __mmask16;
  using Index = __m512i;
  __m512 v;

  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load_strided(const float* p, std::int32_t stride) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return {_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xFFFF,
                                     _mm512_mullo_epi32(lanes, _mm512_set1_epi32(stride)), p, 4)};
  }
  static Vec set(float x) { return {_mm512_set1_ps(x)}; }
  static Index index(std::int32_t i) { return _mm512_set1_epi32(i); }
  static Index load_index(const std::uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store_index(std::uint8_t* p, Index i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(i));
  }
  static Mask greater(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ); }
  static Mask greater_or_nan(Vec a, Vec b) {
    return static_cast<Mask>(_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ) |
                             _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q));
  }
  static Mask not_positive(Vec a) { return _mm512_cmp_ps_mask(a.v, _mm512_setzero_ps(), _CMP_LE_OQ); }
  static Mask equal(Index a, Index b) { return _mm512_cmpeq_epi32_mask(a, b); }
  static Vec select(Mask m, Vec a, Vec b) { return {_mm512_mask_mov_ps(b.v, m, a.v)}; }
  static Index select(Mask m, Index a, Index b) { return _mm512_mask_mov_epi32(b, m, a); }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static Mask first(std::int64_t n) {
    return static_cast<Mask>(n < kWidth ? (1U << static_cast<unsigned>(n)) - 1U : 0xFFFFU);
  }
  static Vec load_first(const float* p, std::int64_t n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
  void store_first(float* p, std::int64_t n) const { _mm512_mask_storeu_ps(p, first(n), v); }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
  static Vec power_of_two(Vec shifted) {
    const __m512i bits = _mm512_slli_epi32(_mm512_castps_si512(shifted.v), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_set1_epi32(0x3F800000)))};
  }
};

/// Rows become columns.
inline void transpose(Vec (&v)[16]) {
  __m512 t[16];
  for (int i = 0; i < 16; i += 2) {  // pairs of values
    t[i] = _mm512_unpacklo_ps(v[i].v, v[i + 1].v);
    t[i + 1] = _mm512_unpackhi_ps(v[i].v, v[i + 1].v);
  }
  for (int i = 0; i < 16; i += 4) {  // 4x4 blocks
    for (int j = 0; j < 2; ++j) {
      const __m512d a = _mm512_castps_pd(t[i + j]);
      const __m512d b = _mm512_castps_pd(t[i + j + 2]);
      v[i + 2 * j].v = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
      v[i + 2 * j + 1].v = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    }
  }
  for (int i = 0; i < 4; ++i) {  // the blocks of each column of blocks
    const __m512 low = _mm512_shuffle_f32x4(v[i].v, v[i + 4].v, 0x88);
    const __m512 high = _mm512_shuffle_f32x4(v[i + 8].v, v[i + 12].v, 0x88);
    const __m512 low_odd = _mm512_shuffle_f32x4(v[i].v, v[i + 4].v, 0xdd);
    const __m512 high_odd = _mm512_shuffle_f32x4(v[i + 8].v, v[i + 12].v, 0xdd);
    t[i] = _mm512_shuffle_f32x4(low, high, 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(low_odd, high_odd, 0x88);
    t[i + 8] = _mm512_shuffle_f32x4(low, high, 0xdd);
    t[i + 12] = _mm512_shuffle_f32x4(low_odd, high_odd, 0xdd);
  }
  for (int i = 0; i < 16; ++i) v[i].v = t[i];
}

#elif defined(__AVX2__) && defined(__FMA__)

struct Vec {
  static constexpr std::int64_t kWidth = 8;
  static constexpr int kRegisters = 16;
  using Mask = __m256;
  using Index = __m256i;
  __m256 v;

  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec load_strided(const float* p, std::int32_t stride) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return {_mm256_i32gather_ps(p, _mm256_mullo_epi32(lanes, _mm256_set1_epi32(stride)), 4)};
  }
  static Vec set(float x) { return {_mm256_set1_ps(x)}; }
  static Index index(std::int32_t i) { return _mm256_set1_epi32(i); }
  static Index load_index(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static void store_index(std::uint8_t* p, Index i) {
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
  }
  static Mask greater(Vec a, Vec b) { return _mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ); }
  static Mask greater_or_nan(Vec a, Vec b) {
    return _mm256_or_ps(_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ), _mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
  }
  static Mask not_positive(Vec a) { return _mm256_cmp_ps(a.v, _mm256_setzero_ps(), _CMP_LE_OQ); }
  static Mask equal(Index a, Index b) { return _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b)); }
  static Vec select(Mask m, Vec a, Vec b) { return {_mm256_blendv_ps(b.v, a.v, m)}; }
  static Index select(Mask m, Index a, Index b) { return _mm256_blendv_epi8(b, a, _mm256_castps_si256(m)); }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  static __m256i first(std::int64_t n) {
    const int count = static_cast<int>(n < kWidth ? n : kWidth);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Vec load_first(const float* p, std::int64_t n) { return {_mm256_maskload_ps(p, first(n))}; }
  void store_first(float* p, std::int64_t n) const { _mm256_maskstore_ps(p, first(n), v); }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
  static Vec power_of_two(Vec shifted) {
    const __m256i bits = _mm256_slli_epi32(_mm256_castps_si256(shifted.v), 23);
    return {_mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_set1_epi32(0x3F800000)))};
  }
};

/// Rows become columns.
inline void transpose(Vec (&v)[8]) {
  __m256 t[8];
  for (int i = 0; i < 8; i += 2) {  // pairs of values
    t[i] = _mm256_unpacklo_ps(v[i].v, v[i + 1].v);
    t[i + 1] = _mm256_unpackhi_ps(v[i].v, v[i + 1].v);
  }
  for (int i = 0; i < 8; i += 4) {  // 4x4 blocks
    for (int j = 0; j < 2; ++j) {
      v[i + 2 * j].v = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0x44);
      v[i + 2 * j + 1].v = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0xee);
    }
  }
  for (int i = 0; i < 4; ++i) {  // the blocks of each column of blocks
    const __m256 low = _mm256_permute2f128_ps(v[i].v, v[i + 4].v, 0x20);
    const __m256 high = _mm256_permute2f128_ps(v[i].v, v[i + 4].v, 0x31);
    v[i].v = low;
    v[i + 4].v = high;
  }
}

#else

struct Vec : One {
  static constexpr int kRegisters = 16;

  Vec() = default;
  Vec(One one) : One(one) {}
};

/// Rows become columns.
inline void transpose(Vec (&)[1]) {}

#endif

/// Calls body.template operator()<V>(c) for all channels, as many at once as V holds.
template <class Body>
void for_each_channel(std::int64_t channels, Body body) {
  std::int64_t c = 0;
  for (; c + Vec::kWidth <= channels; c += Vec::kWidth) body.template operator()<Vec>(c);
  for (; c < channels; ++c) body.template operator()<One>(c);
}

}  // namespace
}  // namespace impart::nn

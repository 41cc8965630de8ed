// Compiled for AMX, called only where the machine has it.
#include "nn/kernels/split_product.hpp"

#include "nn/kernels/gemm.hpp"
#include "nn/kernels/isa.hpp"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)

#include <sys/syscall.h>
#include <unistd.h>

#include "nn/kernels/simd.hpp"

namespace impart::nn {

namespace {

// Linux gives a process the tiles' registers when it asks (Documentation/arch/x86/xstate.rst).
bool ask_for_tiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

constexpr std::int64_t kPart = kSplitTile / kSplitParts;
constexpr std::int64_t kTileRow = 32;  // bfloat16

/// The parts of 32 values: a row of a tile.
struct SplitRow {
  __m512i part[kSplitParts];

  void store(std::uint16_t* to) const {
    for (int p = 0; p < kSplitParts; ++p) _mm512_store_si512(to + p * kPart, part[p]);
  }
};

/// A float's nearest bfloat16, in its upper half. Some kinds of NaN become zero; the last part does not.
__m512i high_part(__m512 v) {
  const __m512i rounded = _mm512_add_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(0x8000));
  return _mm512_and_si512(rounded, _mm512_set1_epi32(static_cast<int>(0xFFFF0000U)));
}

/// Splits two registers of floats: join(upper halves of the first, of the second) and join_last(floats) make
/// rows of them.
template <class Join, class JoinLast>
SplitRow split(Vec first, Vec second, Join join, JoinLast join_last) {
  SplitRow row;
  for (int p = 0; p + 1 < kSplitParts; ++p) {
    const __m512i a = high_part(first.v);
    const __m512i b = high_part(second.v);
    row.part[p] = join(a, b);
    first.v = _mm512_sub_ps(first.v, _mm512_castsi512_ps(a));
    second.v = _mm512_sub_ps(second.v, _mm512_castsi512_ps(b));
  }
  row.part[kSplitParts - 1] = join_last(reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second.v, first.v)));
  return row;
}

/// One register after the other: a row of a left tile.
SplitRow split_row(Vec first, Vec second) {
  const __m512i odd = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29,
                                       27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  return split(
      first, second, [&](__m512i a, __m512i b) { return _mm512_permutex2var_epi16(a, odd, b); },
      [](__m512i both) { return both; });
}

/// Pairs (first, second): a row of a right tile.
SplitRow split_pairs(Vec first, Vec second) {
  const __m512i interleave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                              23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return split(
      first, second, [](__m512i a, __m512i b) { return _mm512_or_si512(_mm512_srli_epi32(a, 16), b); },
      [&](__m512i both) { return _mm512_permutexvar_epi16(interleave, both); });
}

const float* row_of(const SplitSource& s, std::int64_t row) {
  return s.first + (s.rows != nullptr ? s.rows[row] : s.from + row * s.stride);
}

/// What is left of `all` values at `from`, not more than a register of them, and 0 when there are none.
std::int64_t left(std::int64_t all, std::int64_t from) {
  const std::int64_t rest = all - from;
  return rest < 0 ? 0 : rest < Vec::kWidth ? rest : Vec::kWidth;
}

/// Two rows of the source, of which load(row) takes a register; rows beyond the last one are zero.
template <class Load>
SplitRow split_pair(const SplitSource& s, std::int64_t row, Load load) {
  const Vec first = row < s.count ? load(row_of(s, row)) : Vec::set(0);
  const Vec second = row + 1 < s.count ? load(row_of(s, row + 1)) : Vec::set(0);
  return split_pairs(first, second);
}

/// The sums of a tile of 16 kRows x 16 kColumns, and how they are computed.
template <int kRows, int kColumns>
struct TileProduct {
  static constexpr std::int64_t kStride = kSplitColumns;  // of `sums`
  static constexpr std::int64_t kSize = kSplitRows * kRows * kStride;

  template <class Row>
  static void load(Row row, std::int64_t stride) {
    _tile_loadd(0, row(0), stride);
    if constexpr (kColumns > 1) _tile_loadd(1, row(0) + kSplitRows, stride);
    if constexpr (kRows > 1) _tile_loadd(2, row(1), stride);
    if constexpr (kRows > 1 && kColumns > 1) _tile_loadd(3, row(1) + kSplitRows, stride);
  }
  static void clear() {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  template <class Row>
  static void store(Row row, std::int64_t stride) {
    _tile_stored(0, row(0), stride);
    if constexpr (kColumns > 1) _tile_stored(1, row(0) + kSplitRows, stride);
    if constexpr (kRows > 1) _tile_stored(2, row(1), stride);
    if constexpr (kRows > 1 && kColumns > 1) _tile_stored(3, row(1) + kSplitRows, stride);
  }

  static void load_left(const std::uint16_t* a, std::int64_t tile) {
    _tile_loadd(4, a, 64);
    if constexpr (kRows > 1) _tile_loadd(5, a + tile, 64);
  }
  static void load_right(const std::uint16_t* b, std::int64_t tile) {
    _tile_loadd(6, b, 64);
    if constexpr (kColumns > 1) _tile_loadd(7, b + tile, 64);
  }
  static void multiply_add() {
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kColumns > 1) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kRows > 1) _tile_dpbf16ps(2, 5, 6);
    if constexpr (kRows > 1 && kColumns > 1) _tile_dpbf16ps(3, 5, 7);
  }
  static void multiply(const std::uint16_t* a, std::int64_t a_tile, const std::uint16_t* b,
                       std::int64_t b_tile, std::int64_t steps) {
    for (std::int64_t step = 0; step < steps; ++step, a += kSplitTile, b += kSplitTile) {
      load_left(a, a_tile);
      load_right(b + 2 * kPart, b_tile);
      multiply_add();  // 1 3
      load_right(b + kPart, b_tile);
      multiply_add();  // 1 2
      load_left(a + kPart, a_tile);
      multiply_add();  // 2 2
      load_right(b, b_tile);
      multiply_add();  // 2 1
      load_left(a + 2 * kPart, a_tile);
      multiply_add();  // 3 1
      load_left(a, a_tile);
      multiply_add();  // 1 1
    }
  }
};

/// Adds `from` to `to`, rows of as many registers as the tile has columns of tiles.
template <int kRows, int kColumns>
void add_sums(const float* from, float* to) {
  for (std::int64_t r = 0; r < kSplitRows * kRows; ++r, from += kSplitColumns, to += kSplitColumns) {
    for (int c = 0; c < kColumns; ++c) {
      (Vec::load(from + c * Vec::kWidth) + Vec::load(to + c * Vec::kWidth)).store(to + c * Vec::kWidth);
    }
  }
}

template <int kRows, int kColumns>
void split_tile(const SplitProduct& g, std::int64_t row, std::int64_t column) {
  using Tiles = TileProduct<kRows, kColumns>;
  constexpr int kLevels = 7;  // of a tree of kMaxTileShards, and the sum itself
  static_assert(std::int64_t{1} << (kLevels - 1) == kMaxTileShards);
  const std::int64_t tile = g.shards * g.steps * kSplitTile;
  const std::uint16_t* a = g.a + row / kSplitRows * tile;
  const std::uint16_t* b = g.b + column / kSplitRows * tile;
  const std::int64_t rows = g.rows - row < kSplitRows * kRows ? g.rows - row : kSplitRows * kRows;
  const std::int64_t columns =
      g.columns - column < kSplitRows * kColumns ? g.columns - column : kSplitRows * kColumns;
  const auto place = [&](std::int64_t r) {
    return g.c + column + (g.c_rows != nullptr ? g.c_rows[row + r] : (row + r) * g.c_stride);
  };
  const bool whole = rows == kSplitRows * kRows && columns == kSplitRows * kColumns && g.c_rows == nullptr;
  if (whole && g.shards == 1 && g.bias == nullptr && !g.relu) {
    const auto tile_row = [&](std::int64_t t) { return place(t * kSplitRows); };
    const std::int64_t stride = g.c_stride * static_cast<std::int64_t>(sizeof(float));
    g.add ? Tiles::load(tile_row, stride) : Tiles::clear();
    Tiles::multiply(a, tile, b, tile, g.steps);
    Tiles::store(tile_row, stride);
    return;
  }
  alignas(64) float sums[kLevels][Tiles::kSize];  // those that wait for their neighbour, and then the newest
  constexpr std::int64_t kStride = Tiles::kStride * static_cast<std::int64_t>(sizeof(float));
  int waiting = 0;
  for (std::int64_t s = 0; s < g.shards; ++s) {
    float* sum = sums[waiting];
    const auto tile_row = [&](std::int64_t t) { return sum + t * kSplitRows * Tiles::kStride; };
    if (g.add) {
      for (std::int64_t r = 0; r < rows; ++r) {
        for (int c = 0; c < kColumns; ++c) {
          Vec::load_first(place(r) + c * Vec::kWidth, left(columns, c * Vec::kWidth))
              .store(sum + r * Tiles::kStride + c * Vec::kWidth);
        }
      }
      Tiles::load(tile_row, kStride);
    } else {
      Tiles::clear();
    }
    Tiles::multiply(a + s * g.steps * kSplitTile, tile, b + s * g.steps * kSplitTile, tile, g.steps);
    Tiles::store(tile_row, kStride);
    ++waiting;
    for (std::int64_t block = s; block % 2 == 1; block /= 2, --waiting) {
      add_sums<kRows, kColumns>(sums[waiting - 1], sums[waiting - 2]);
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (int c = 0; c < kColumns; ++c) {
      const std::int64_t count = left(columns, c * Vec::kWidth);
      Vec value = Vec::load(sums[0] + r * Tiles::kStride + c * Vec::kWidth);
      if (g.bias != nullptr) value = value + Vec::load_first(g.bias + column + c * Vec::kWidth, count);
      if (g.relu) value = Vec::select(Vec::not_positive(value), Vec::set(0), value);
      value.store_first(place(r) + c * Vec::kWidth, count);
    }
  }
}

/// All eight tiles have their full size.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

}  // namespace

bool have_amx() {
  static const bool answer = onednn_uses_amx() && ask_for_tiles();
  return answer;
}

void split_left(const SplitSource& s) {
  const std::int64_t tiles = (s.count + kSplitRows - 1) / kSplitRows;
  for (std::int64_t r = 0; r < tiles * kSplitRows; ++r) {
    std::uint16_t* to = s.to + r / kSplitRows * s.tile_stride + r % kSplitRows * kTileRow;
    const float* from = r < s.count ? row_of(s, r) : nullptr;
    for (std::int64_t d = 0; d < s.width; d += kSplitDepth, to += kSplitTile) {
      if (from == nullptr) {
        SplitRow{}.store(to);
      } else {
        split_row(Vec::load_first(from + d, left(s.width, d)),
                  Vec::load_first(from + d + Vec::kWidth, left(s.width, d + Vec::kWidth)))
            .store(to);
      }
    }
  }
}

void split_left_transposed(const SplitSource& s) {
  for (std::int64_t d = 0; d < s.count; d += kSplitDepth) {
    std::uint16_t* to = s.to + d / kSplitDepth * kSplitTile;
    for (std::int64_t c = 0; c < s.width; c += kSplitRows, to += s.tile_stride) {
      const std::int64_t count = left(s.width, c);
      Vec parts[kSplitParts][kSplitRows];
      for (std::int64_t pair = 0; pair < kSplitRows; ++pair) {
        const auto row =
            split_pair(s, d + 2 * pair, [&](const float* from) { return Vec::load_first(from + c, count); });
        for (int p = 0; p < kSplitParts; ++p) parts[p][pair].v = _mm512_castsi512_ps(row.part[p]);
      }
      for (int p = 0; p < kSplitParts; ++p) {
        transpose(parts[p]);
        for (std::int64_t r = 0; r < kSplitRows; ++r) {
          parts[p][r].store(reinterpret_cast<float*>(to + p * kPart + r * kTileRow));
        }
      }
    }
  }
}

void split_right(const SplitSource& s) {
  for (std::int64_t d = 0; d < split_steps(s.count) * kSplitDepth; d += 2) {
    std::uint16_t* to = s.to + d / kSplitDepth * kSplitTile + d % kSplitDepth / 2 * kTileRow;
    for (std::int64_t c = 0; c < s.width; c += kSplitRows, to += s.tile_stride) {
      const std::int64_t count = left(s.width, c);
      split_pair(s, d, [&](const float* from) { return Vec::load_first(from + c, count); }).store(to);
    }
  }
}

void multiply_split(const SplitProduct& g) {
  static constexpr TileShapes kShapes;
  _tile_loadconfig(&kShapes);
  for (std::int64_t row = 0; row < g.rows; row += 2 * kSplitRows) {
    for (std::int64_t column = 0; column < g.columns; column += kSplitColumns) {
      const bool high = g.rows - row > kSplitRows;
      const bool wide = g.columns - column > kSplitRows;
      if (high) {
        wide ? split_tile<2, 2>(g, row, column) : split_tile<2, 1>(g, row, column);
      } else {
        wide ? split_tile<1, 2>(g, row, column) : split_tile<1, 1>(g, row, column);
      }
    }
  }
  _tile_release();
}

}  // namespace impart::nn

#else

namespace impart::nn {

bool have_amx() { return false; }
void split_left(const SplitSource& /*s*/) {}
void split_left_transposed(const SplitSource& /*s*/) {}
void split_right(const SplitSource& /*s*/) {}
void multiply_split(const SplitProduct& /*g*/) {}

}  // namespace impart::nn

#endif

// Products of matrices on AMX's tiles, which multiply bfloat16 and add up in float.
//
// A value is the sum of three bfloat16, each the nearest one to what those before leave: all 24 bits of its
// significand. Of the nine products of two split values the three smallest are left out, 2^-24 of the whole
// and less, so that the error is that of a chain of floats. Six tile operations take 96 cycles, for what
// takes AVX-512 256. (With two parts and three products the error of a layer is 5e-6, which the gradients of
// deep networks make a thousand times as much.) What is not finite becomes NaN.
//
// Every value of a product is one chain of tile operations over the depth, 32 of it at a time from its start,
// so that its bits do not depend on its place in a tile, nor on how the depth is cut into calls that add, as
// long as it is cut at multiples of 32.
#pragma once

#include <cstdint>

namespace impart::nn {

/// Whether the machine, the system and the build have AMX for bfloat16, and oneDNN is allowed to use it.
bool have_amx();

inline constexpr std::int64_t kSplitRows = 16;   ///< of a tile
inline constexpr std::int64_t kSplitDepth = 32;  ///< of a tile
inline constexpr std::int64_t kSplitParts = 3;   ///< of a value
inline constexpr std::int64_t kSplitTile =
    1536;  ///< bfloat16 of a tile: all first parts, all second ones ...
inline constexpr std::int64_t kSplitColumns = 32;  ///< two tiles, that are multiplied at a time

/// Tiles that a depth takes.
constexpr std::int64_t split_steps(std::int64_t depth) { return (depth + kSplitDepth - 1) / kSplitDepth; }
/// Floats whose place so many split values take.
constexpr std::int64_t split_floats(std::int64_t values) { return (values * kSplitParts + 1) / 2; }

/// A matrix to split: `count` rows of `width` values from the value `first` on, `stride` apart or where
/// `rows` says. Tiles of the same rows (or columns) of a product lie one after the other along the depth;
/// what is beyond the matrix is zero.
struct SplitSource {
  const float* from = nullptr;
  std::int64_t stride = 0;
  const float* const* rows = nullptr;
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t width = 0;
  std::uint16_t* to = nullptr;
  std::int64_t tile_stride = 0;  ///< from the tiles of 16 rows (or columns) to those of the next ones
};

/// As the left factor, whose rows they are.
void split_left(const SplitSource& s);
/// As the left factor, whose columns they are: for each depth a row.
void split_left_transposed(const SplitSource& s);
/// As the right factor: for each depth a row.
void split_right(const SplitSource& s);

/// c = or += a b for each of `shards` equal parts of the depth, summed in sum_shards' tree.
struct SplitProduct {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t steps = 0;   ///< of one shard
  std::int64_t shards = 1;  ///< a power of two, at most kMaxTileShards
  const std::uint16_t* a = nullptr;
  const std::uint16_t* b = nullptr;
  float* c = nullptr;  ///< (rows, columns), rows c_stride apart,
  std::int64_t c_stride = 0;
  const std::int64_t* c_rows = nullptr;  ///< or, when not null, where each row starts (rows)
  bool add = false;             ///< to what c holds, as the first term of the chain; for one shard only
  const float* bias = nullptr;  ///< (columns), added after the products; may be null
  bool relu = false;            ///< at last; keeps NaN
};

void multiply_split(const SplitProduct& g);

}  // namespace impart::nn

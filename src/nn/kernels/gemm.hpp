// Products of small and large matrices, the base of convolutions and dense layers.
//
// Every value of a product is one chain of fused multiply-adds, from the first to the last of the depth:
// c = fma(a[d], b[d], c). So its bits depend neither on its place in a tile, nor on how rows and columns are
// cut into tiles, nor on how the depth is cut into calls that add, nor on the instruction set.
#pragma once

#include <cstdint>

namespace impart::nn {

/// c = or += a b, with b in panels: panel p holds the columns [p tile_columns, (p + 1) tile_columns) as
/// (depth, tile_columns) row-major, panels one after the other; columns beyond the last may be anything.
struct Product {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t depth = 0;
  const float* a = nullptr;  ///< (rows, depth), rows a_stride apart
  std::int64_t a_stride = 0;
  const float* b = nullptr;
  float* c = nullptr;  ///< (rows, columns), rows c_stride apart,
  std::int64_t c_stride = 0;
  const std::int64_t* c_rows = nullptr;  ///< or, when not null, where each row starts (rows)
  bool add = false;                      ///< to what c holds
  const float* bias = nullptr;           ///< (columns), added after the products; may be null
  bool relu = false;                     ///< at last; keeps NaN
};

/// c = a' b for each of `shards` equal, neighbouring parts of the depth, summed in sum_shards' tree.
struct OuterProduct {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t depth = 0;   ///< of one shard
  std::int64_t shards = 1;  ///< a power of two, at most kMaxTileShards
  /// (shards * depth, rows) in panels as Product::b, of tile_rows columns each.
  const float* a = nullptr;
  const float* const* b = nullptr;  ///< for each depth where its row of `columns` values starts
  /// (shards * depth, tile_columns), takes the columns that are multiplied at the time: rows of b that are
  /// far apart are looked up once, not once for each row tile.
  float* b_memory = nullptr;
  float* c = nullptr;  ///< (rows, columns), rows c_stride apart
  std::int64_t c_stride = 0;
  bool add = false;  ///< to what c holds, as the first term of the chain; for one shard only
};

inline constexpr std::int64_t kMaxTileShards = 64;

/// Pixels side by side in a row of an image, that a patch takes its values from.
struct PatchRun {
  std::int64_t dy = 0;  ///< of the first pixel, from the patch's origin
  std::int64_t dx = 0;
  std::int64_t pixels = 1;
};

/// Patches of channels-last images as rows of a matrix: one for each place (n, y, x) of a grid, with its
/// origin at pixel (y step, x step) of image n; zeros for pixels outside the image.
struct Patches {
  std::int64_t height = 0;  ///< of the images
  std::int64_t width = 0;
  std::int64_t pixel = 0;   ///< floats from one pixel to the next
  std::int64_t values = 0;  ///< floats to take of each; all of them where runs are longer than a pixel
  std::int64_t grid_height = 0;
  std::int64_t grid_width = 0;
  std::int64_t step = 1;
  const PatchRun* runs = nullptr;
  std::int64_t run_count = 0;
};

/// The rows of the matrix of `Patches` that are wanted.
struct PatchRows {
  const float* images = nullptr;  ///< at the first of the values to take
  std::int64_t first = 0;         ///< place on the grid, counted through all images
  std::int64_t rows = 0;
  float* to = nullptr;
  std::int64_t stride = 0;  ///< of `to`
};

/// from (rows, columns) to panels of tile_rows columns, as OuterProduct::a.
struct OuterPanels {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const float* from = nullptr;
  std::int64_t stride = 0;
  float* to = nullptr;
};

/// from (rows, columns) to the first rows of panels of `depth` rows, as Product::b.
struct RowPanels {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const float* from = nullptr;
  std::int64_t stride = 0;
  float* to = nullptr;
  std::int64_t depth = 0;
};

/// to[to_row[j] + i] = from[i * stride + j]: a transposed matrix (rows, columns), whose rows go where
/// `to_row` says; those with a negative place are left out.
struct Transpose {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const float* from = nullptr;
  std::int64_t stride = 0;
  float* to = nullptr;
  const std::int64_t* to_row = nullptr;  ///< (columns)
};

}  // namespace impart::nn

// Winograd's minimal filtering for 3x3 convolutions of stride 1 (Lavin and Gray 2015).
//
// An image is cut into tiles. Transformed tiles (rows) times transformed weights, once for each of 9, 16 or
// 36 points, give transformed outputs. Everything happens in blocks that stay in the cache, and no
// transformed copy of the weights outlives a run.
#pragma once

#include <cstdint>
#include <memory>

#include "nn/kernels/convolution.hpp"

namespace impart::nn {

enum class WinogradTile : std::uint8_t {
  kFour,  ///< F(4x4, 3x3): 36 products for 16 outputs
  kTwo,   ///< F(2x2, 3x3): 16 products for 4 outputs
  kPair,  ///< an image of 2x2 with padding 1: 9 products for 4 outputs
};

/// A correlation with 3x3 weights, and how it is cut into blocks. It serves the forward pass and, with the
/// weights turned around, the gradient of the data.
struct WinogradConv {
  WinogradTile tile = WinogradTile::kFour;
  std::int64_t images = 0;
  std::int64_t height = 0;  ///< of x (images, height, width, channels)
  std::int64_t width = 0;
  std::int64_t channels = 0;
  std::int64_t out_height = 0;  ///< of y (images, out_height, out_width, filters)
  std::int64_t out_width = 0;
  std::int64_t filters = 0;
  std::int64_t padding = 0;
  /// Tap (ky, kx) of filter f and channel c is at f * filter_stride + c * channel_stride + 3 ky + kx, or at
  /// 8 - 3 ky - kx when flipped.
  std::int64_t filter_stride = 0;
  std::int64_t channel_stride = 0;
  bool flipped = false;
  bool relu = false;

  std::int64_t tile_block = 0;
  std::int64_t channel_block = 0;
  std::int64_t filter_block = 0;
  bool all_weights = false;  ///< transform all weights before the first tile; else once for each tile block

  // Where things are in the scratch, in floats. Rows are (tile block, channel block) for each channel block
  // and point; panels of weights for each pair of blocks; products (tile block, filter block) for each point.
  std::int64_t point_rows = 0;      ///< from one point's rows to the next
  std::int64_t point_panels = 0;    ///< from one point's panels to the next
  std::int64_t point_products = 0;  ///< from one point's products to the next
  std::int64_t panels_at = 0;
  std::int64_t products_at = 0;
  std::int64_t zeros_at = 0;  ///< (channels)
  std::int64_t floats = 0;
};

/// The gradient of the weights: for each shard and point, products of transformed gradients and tiles of x,
/// summed over the shard's tiles and transformed back; the shards' results are added in ShardTree's order.
struct WinogradWeights {
  WinogradTile tile = WinogradTile::kFour;
  std::int64_t height = 0;  ///< of x (images, height, width, channels)
  std::int64_t width = 0;
  std::int64_t channels = 0;
  std::int64_t out_height = 0;  ///< of grad_y (images, out_height, out_width, filters)
  std::int64_t out_width = 0;
  std::int64_t filters = 0;
  std::int64_t padding = 0;

  std::int64_t shard_tiles = 0;
  /// Many tiles: one shard and one point after another. Few: one block of weights after another, each for all
  /// shards of a group and all points.
  bool by_points = false;
  std::int64_t group_shards = 1;
  std::int64_t tile_block = 0;     ///< tiles transformed at once
  std::int64_t channel_block = 0;  ///< channels of x transformed at once

  // Where things are in the scratch, in floats; transformed gradients are at its start.
  std::int64_t point_gradients = 0;  ///< from one point's transformed gradients to the next
  std::int64_t point_inputs = 0;     ///< from one point's transformed inputs to the next
  std::int64_t point_products = 0;   ///< from one point's products to the next, by points
  std::int64_t inputs_at = 0;
  std::int64_t products_at = 0;
  std::int64_t zeros_at = 0;
  std::int64_t floats = 0;
};

/// Sums that wait in the tree of a group of shards.
inline constexpr int kWinogradLevels = 6;
inline constexpr std::int64_t kMaxGroupShards = std::int64_t{1} << kWinogradLevels;

bool winograd4_serves(const ConvGeometry& g, ConvDirection direction);
bool winograd2_serves(const ConvGeometry& g, ConvDirection direction);
bool winograd4_wins(const ConvGeometry& g, ConvDirection direction);
bool winograd2_wins(const ConvGeometry& g, ConvDirection direction);
std::unique_ptr<ConvForward> make_winograd4_forward(const ConvGeometry& g, const ConvOptions& options,
                                                    Scratch& scratch);
std::unique_ptr<ConvForward> make_winograd2_forward(const ConvGeometry& g, const ConvOptions& options,
                                                    Scratch& scratch);
std::unique_ptr<ConvBackwardData> make_winograd4_data(const ConvGeometry& g, const ConvOptions& options,
                                                      Scratch& scratch);
std::unique_ptr<ConvBackwardData> make_winograd2_data(const ConvGeometry& g, const ConvOptions& options,
                                                      Scratch& scratch);
std::unique_ptr<ConvBackwardWeights> make_winograd4_weights(const ConvGeometry& g, const ConvOptions& options,
                                                            Scratch& scratch);
std::unique_ptr<ConvBackwardWeights> make_winograd2_weights(const ConvGeometry& g, const ConvOptions& options,
                                                            Scratch& scratch);

}  // namespace impart::nn

// Gradients of weights by Winograd's algorithms (winograd.hpp); part of kernels.inl.
namespace impart::nn {
namespace {

constexpr int kFilterRows =
    Vec::kRegisters == 32 ? 8 : 4;         // filters of a block of products in the nearest cache
constexpr std::int64_t kFilterPanel = 16;  // filters of a panel of transformed gradients
constexpr std::int64_t kBlockFloats = kFilterRows * kTileColumns;
constexpr int kWeightTaps = kWinogradTaps * kWinogradTaps;

/// Tiles of grad_y to panels: for each kFilterPanel filters and each point (tiles, kFilterPanel).
template <class F>
void winograd_gradients(const WinogradWeights& w, const float* grad_y, std::int64_t first, std::int64_t tiles,
                        const float* zeros, float* panels) {
  for (std::int64_t t = 0; t < tiles; ++t) {
    const TilePixels<F::kOut> pixels(grad_y, w.out_height, w.out_width, w.filters,
                                     output_place<F>(w, first + t), zeros);
    for (std::int64_t f = 0; f < w.filters; f += Vec::kWidth) {
      float* to = panels + f / kFilterPanel * F::kPoints * F::kPoints * w.point_gradients + t * kFilterPanel +
                  f % kFilterPanel;
      transform_tile<Vec, F::kOut, F::kPoints, F::grad>(
          [&](int i, int j) { return Vec::load(pixels.at[i][j] + f); },
          [&](int i, int j, Vec value) { value.store(to + (i * F::kPoints + j) * w.point_gradients); });
    }
  }
}

/// Tiles of x to panels, for the channels [c0, c1): for each kTileColumns of them and each point (tiles,
/// kTileColumns).
template <class F>
void winograd_inputs(const WinogradWeights& w, const float* x, std::int64_t first, std::int64_t tiles,
                     std::int64_t c0, std::int64_t c1, const float* zeros, float* panels) {
  for (std::int64_t t = 0; t < tiles; ++t) {
    const TilePixels<F::kIn> pixels(x, w.height, w.width, w.channels, input_place<F>(w, first + t), zeros);
    for (std::int64_t c = c0; c < c1; c += Vec::kWidth) {
      float* to = panels + (c - c0) / kTileColumns * F::kPoints * F::kPoints * w.point_inputs +
                  t * kTileColumns + (c - c0) % kTileColumns;
      transform_tile<Vec, F::kIn, F::kPoints, F::input>(
          [&](int i, int j) { return Vec::load(pixels.at[i][j] + c); },
          [&](int i, int j, Vec value) { value.store(to + (i * F::kPoints + j) * w.point_inputs); });
    }
  }
}

/// to (kFilterRows, kTileColumns) = or += the sum over tiles of gradients times inputs.
void winograd_block(std::int64_t tiles, const float* gradients, const float* inputs, bool add, float* to) {
  const auto row = [&](int r) { return to + r * kTileColumns; };
  Tile<kFilterRows, kTileVecs> block;
  if (add) {
    block.load(row, Vec::kWidth);
  } else {
    block.clear();
  }
  for (std::int64_t t = 0; t < tiles; ++t, gradients += kFilterPanel, inputs += kTileColumns) {
    Vec in[kTileVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVecs; ++v) in[v] = Vec::load(inputs + v * Vec::kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kFilterRows; ++r) {
      const Vec grad = Vec::set(gradients[r]);
#pragma GCC unroll 4
      for (int v = 0; v < kTileVecs; ++v) block.sum[r][v] = Vec::fma(grad, in[v], block.sum[r][v]);
    }
  }
  block.store(row, Vec::kWidth);
}

/// A shard's block of products (kFilterRows, kTileColumns) for each point, `stride` floats apart, to taps (9,
/// kFilterRows, kTileColumns), added to the shards before it in ShardTree's order; `levels` holds the sums
/// that wait.
template <class F>
void winograd_taps(const float* products, std::int64_t stride, std::int64_t shard, std::int64_t shards,
                   float* taps, float* levels) {
  const bool last = shard + 1 == shards;
  for (std::int64_t at = 0; at < kBlockFloats; at += Vec::kWidth) {
    transform_tile<Vec, F::kPoints, kWinogradTaps, F::taps>(
        [&](int i, int j) { return Vec::load(products + (i * F::kPoints + j) * stride + at); },
        [&](int i, int j, Vec value) {
          const std::int64_t place = (i * kWinogradTaps + j) * kBlockFloats + at;
          float* level = levels + place;
          for (std::int64_t block = shard; block % 2 == 1; block /= 2, level += kWeightTaps * kBlockFloats) {
            value = Vec::load(level) + value;
          }
          value.store(last ? taps + place : level);
        });
  }
}

/// One block's taps to the gradient (filters, channels, 3, 3).
void winograd_store_taps(const WinogradWeights& w, const float* taps, std::int64_t f, std::int64_t c,
                         float* grad_weight) {
  const std::int64_t columns = w.channels - c < kTileColumns ? w.channels - c : kTileColumns;
  for (std::int64_t r = 0; r < kFilterRows; ++r) {
    float* row = grad_weight + ((f + r) * w.channels + c) * kWeightTaps;
    for (std::int64_t k = 0; k < columns; k += Vec::kWidth, row += Vec::kWidth * kWeightTaps) {
      const float* from = taps + r * kTileColumns + k;
      constexpr int kTogether = Vec::kWidth < kWeightTaps ? static_cast<int>(Vec::kWidth) : kWeightTaps;
      Vec v[Vec::kWidth];
      for (int i = 0; i < Vec::kWidth; ++i)
        v[i] = i < kTogether ? Vec::load(from + i * kBlockFloats) : Vec::set(0);
      transpose(v);
      for (int i = 0; i < Vec::kWidth; ++i) {
        v[i].store_first(row + i * kWeightTaps, kTogether);
        for (int t = kTogether; t < kWeightTaps; ++t) row[i * kWeightTaps + t] = from[t * kBlockFloats + i];
      }
    }
  }
}

/// Calls body(f, c, number) for all blocks of filters and of the channels [c0, c1).
template <class Body>
void for_each_weight_block(const WinogradWeights& w, std::int64_t c0, std::int64_t c1, Body body) {
  const std::int64_t down = w.filters / kFilterRows;
  for (std::int64_t c = c0; c < c1; c += kTileColumns) {
    for (std::int64_t f = 0; f < w.filters; f += kFilterRows) {
      body(f, c, c / kTileColumns * down + f / kFilterRows);
    }
  }
}

/// What a group's sums are computed from, and where they go.
struct WinogradGroup {
  const float* gradients;
  const float* inputs;
  float* products;
  bool in_blocks;
  float* to;
};

/// Where the taps of a block go: to their place, or first to `taps`.
float* block_sums(const WinogradGroup& group, std::int64_t number, float* taps) {
  return group.in_blocks ? group.to + number * kWeightTaps * kBlockFloats : taps;
}

/// The blocks of the channels [c0, c1), each for all shards and points: a block's products never leave the
/// nearest cache.
template <class F>
void winograd_blocks_of_shards(const WinogradWeights& w, const WinogradGroup& group, std::int64_t c0,
                               std::int64_t c1) {
  constexpr std::int64_t kPoints2 = F::kPoints * F::kPoints;
  alignas(64) float levels[kWinogradLevels * kWeightTaps * kBlockFloats];
  alignas(64) float taps[kWeightTaps * kBlockFloats];
  for_each_weight_block(w, c0, c1, [&](std::int64_t f, std::int64_t c, std::int64_t number) {
    const float* a = group.gradients + f / kFilterPanel * kPoints2 * w.point_gradients + f % kFilterPanel;
    const float* b = group.inputs + (c - c0) / kTileColumns * kPoints2 * w.point_inputs;
    float* sums = block_sums(group, number, taps);
    for (std::int64_t shard = 0; shard < w.group_shards; ++shard) {
      for (std::int64_t p = 0; p < kPoints2; ++p) {
        winograd_block(w.shard_tiles, a + p * w.point_gradients + shard * w.shard_tiles * kFilterPanel,
                       b + p * w.point_inputs + shard * w.shard_tiles * kTileColumns, false,
                       group.products + p * kBlockFloats);
      }
      winograd_taps<F>(group.products, kBlockFloats, shard, w.group_shards, sums, levels);
    }
    if (!group.in_blocks) winograd_store_taps(w, taps, f, c, group.to);
  });
}

/// One shard, point by point, for the channels [c0, c1): a point's gradients and inputs never leave the
/// nearest cache. `add`: to the sums over the tiles before these; `last`: there are no further tiles.
template <class F>
void winograd_blocks_of_points(const WinogradWeights& w, const WinogradGroup& group, std::int64_t tiles,
                               std::int64_t c0, std::int64_t c1, bool add, bool last) {
  constexpr std::int64_t kPoints2 = F::kPoints * F::kPoints;
  const std::int64_t skipped = c0 / kTileColumns * (w.filters / kFilterRows);
  for (std::int64_t p = 0; p < kPoints2; ++p) {
    for_each_weight_block(w, c0, c1, [&](std::int64_t f, std::int64_t c, std::int64_t number) {
      winograd_block(
          tiles, group.gradients + (f / kFilterPanel * kPoints2 + p) * w.point_gradients + f % kFilterPanel,
          group.inputs + ((c - c0) / kTileColumns * kPoints2 + p) * w.point_inputs, add,
          group.products + p * w.point_products + (number - skipped) * kBlockFloats);
    });
  }
  if (!last) return;
  alignas(64) float taps[kWeightTaps * kBlockFloats];
  for_each_weight_block(w, c0, c1, [&](std::int64_t f, std::int64_t c, std::int64_t number) {
    const float* products = group.products + (number - skipped) * kBlockFloats;
    winograd_taps<F>(products, w.point_products, 0, 1, block_sums(group, number, taps), nullptr);
    if (!group.in_blocks) winograd_store_taps(w, taps, f, c, group.to);
  });
}

template <class F>
void winograd_group(const WinogradWeights& w, const float* x, const float* grad_y, bool in_blocks, float* to,
                    float* scratch) {
  const WinogradGroup group{.gradients = scratch,
                            .inputs = scratch + w.inputs_at,
                            .products = scratch + w.products_at,
                            .in_blocks = in_blocks,
                            .to = to};
  float* zeros = scratch + w.zeros_at;
  const std::int64_t most = w.channels > w.filters ? w.channels : w.filters;
  for (std::int64_t i = 0; i < most; ++i) zeros[i] = 0;
  const std::int64_t all_tiles = w.group_shards * w.shard_tiles;
  for (std::int64_t first = 0; first < all_tiles; first += w.tile_block) {
    const std::int64_t tiles = first + w.tile_block < all_tiles ? w.tile_block : all_tiles - first;
    winograd_gradients<F>(w, grad_y, first, tiles, zeros, scratch);
    for (std::int64_t c0 = 0; c0 < w.channels; c0 += w.channel_block) {
      const std::int64_t c1 = c0 + w.channel_block < w.channels ? c0 + w.channel_block : w.channels;
      winograd_inputs<F>(w, x, first, tiles, c0, c1, zeros, scratch + w.inputs_at);
      if (w.by_points) {
        winograd_blocks_of_points<F>(w, group, tiles, c0, c1, first > 0, first + tiles == all_tiles);
      } else {
        winograd_blocks_of_shards<F>(w, group, c0, c1);
      }
    }
  }
}

void winograd_weights(const WinogradWeights& w, const float* x, const float* grad_y, bool in_blocks,
                      float* to, float* scratch) {
  switch (w.tile) {
    case WinogradTile::kFour:
      return winograd_group<WinogradF4<Vec>>(w, x, grad_y, in_blocks, to, scratch);
    case WinogradTile::kTwo:
      return winograd_group<WinogradF2<Vec>>(w, x, grad_y, in_blocks, to, scratch);
    case WinogradTile::kPair:
      return winograd_group<WinogradPair<Vec>>(w, x, grad_y, in_blocks, to, scratch);
  }
}

void winograd_unblock(const WinogradWeights& w, const float* blocks, float* grad_weight) {
  for_each_weight_block(w, 0, w.channels, [&](std::int64_t f, std::int64_t c, std::int64_t number) {
    winograd_store_taps(w, blocks + number * kWeightTaps * kBlockFloats, f, c, grad_weight);
  });
}

}  // namespace
}  // namespace impart::nn

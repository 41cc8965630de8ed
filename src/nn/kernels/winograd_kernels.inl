// Winograd convolutions (winograd.hpp) in blocks that stay in the cache; part of kernels.inl.
namespace impart::nn {
namespace {

/// Where a tile of an image starts.
struct TilePlace {
  std::int64_t image;
  std::int64_t y;
  std::int64_t x;
};

/// The first output of a tile. `Plan` is one of winograd.hpp.
template <class F, class Plan>
TilePlace output_place(const Plan& w, std::int64_t tile) {
  const std::int64_t across = (w.out_width + F::kOut - 1) / F::kOut;
  const std::int64_t down = (w.out_height + F::kOut - 1) / F::kOut;
  return {tile / (across * down), tile / across % down * F::kOut, tile % across * F::kOut};
}

/// The first input of a tile.
template <class F, class Plan>
TilePlace input_place(const Plan& w, std::int64_t tile) {
  TilePlace place = output_place<F>(w, tile);
  if (F::kIn == F::kOut) return place;  // the pair's tiles leave out the padding
  place.y -= w.padding;
  place.x -= w.padding;
  return place;
}

/// The first channel of each pixel of a tile; zeros outside the image.
template <int kSide>
struct TilePixels {
  const float* at[kSide][kSide];

  TilePixels(const float* images, std::int64_t height, std::int64_t width, std::int64_t channels,
             const TilePlace& place, const float* zeros) {
    const float* image = images + place.image * height * width * channels;
    for (int i = 0; i < kSide; ++i) {
      for (int j = 0; j < kSide; ++j) {
        const std::int64_t y = place.y + i;
        const std::int64_t x = place.x + j;
        const bool inside = y >= 0 && y < height && x >= 0 && x < width;
        at[i][j] = inside ? image + (y * width + x) * channels : zeros;
      }
    }
  }
};

/// Tiles of x to rows.
template <class F>
void winograd_rows(const WinogradConv& w, const float* x, std::int64_t first, std::int64_t tiles,
                   const float* zeros, float* rows) {
  for (std::int64_t t = 0; t < tiles; ++t) {
    const TilePixels<F::kIn> pixels(x, w.height, w.width, w.channels, input_place<F>(w, first + t), zeros);
    for (std::int64_t c0 = 0; c0 < w.channels; c0 += w.channel_block) {
      const std::int64_t c1 = c0 + w.channel_block < w.channels ? c0 + w.channel_block : w.channels;
      float* to = rows + c0 / w.channel_block * F::kPoints * F::kPoints * w.point_rows + t * w.channel_block;
      for (std::int64_t c = c0; c < c1; c += Vec::kWidth) {
        transform_tile<Vec, F::kIn, F::kPoints, F::input>(
            [&](int i, int j) { return Vec::load(pixels.at[i][j] + c); },
            [&](int i, int j, Vec value) { value.store(to + (i * F::kPoints + j) * w.point_rows + c - c0); });
      }
    }
  }
}

/// The nine taps of as many filters as a register holds, `stride` floats apart.
void load_taps(const float* from, std::int64_t stride, Vec (&taps)[kWinogradTaps * kWinogradTaps]) {
  constexpr std::int64_t kTaps = kWinogradTaps * kWinogradTaps;
  constexpr std::int64_t kTogether = Vec::kWidth < kTaps ? Vec::kWidth : kTaps;
  Vec rows[Vec::kWidth];
#pragma GCC unroll 16
  for (int i = 0; i < Vec::kWidth; ++i) rows[i] = Vec::load_first(from + i * stride, kTogether);
  transpose(rows);
  for (std::int64_t t = 0; t < kTaps; ++t) {
    taps[t] = t < kTogether ? rows[t] : Vec::load_strided(from + t, static_cast<std::int32_t>(stride));
  }
}

/// Weights of a block of channels and filters to panels.
template <class F>
void winograd_panels(const WinogradConv& w, const float* weight, std::int64_t c0, std::int64_t c1,
                     std::int64_t f0, std::int64_t f1, float* panels) {
  for (std::int64_t f = f0; f < f1; f += Vec::kWidth) {
    const std::int64_t column = f - f0;
    float* panel = panels + column / kTileColumns * (c1 - c0) * kTileColumns + column % kTileColumns;
    for (std::int64_t c = c0; c < c1; ++c, panel += kTileColumns) {
      Vec taps[kWinogradTaps * kWinogradTaps];
      load_taps(weight + f * w.filter_stride + c * w.channel_stride, w.filter_stride, taps);
      transform_tile<Vec, kWinogradTaps, F::kPoints, F::weight>(
          [&](int i, int j) {
            const int tap = i * kWinogradTaps + j;
            return w.flipped ? taps[8 - tap] : taps[tap];
          },
          [&](int i, int j, Vec value) { value.store(panel + (i * F::kPoints + j) * w.point_panels); });
    }
  }
}

/// Products of a block of filters to y.
template <class F>
void winograd_outputs(const WinogradConv& w, const float* products, std::int64_t first, std::int64_t tiles,
                      std::int64_t f0, std::int64_t f1, const float* bias, bool add, float* y) {
  for (std::int64_t t = 0; t < tiles; ++t) {
    const TilePlace place = output_place<F>(w, first + t);
    const std::int64_t height = w.out_height - place.y;
    const std::int64_t width = w.out_width - place.x;
    float* to = y + ((place.image * w.out_height + place.y) * w.out_width + place.x) * w.filters;
    for (std::int64_t f = f0; f < f1; f += Vec::kWidth) {
      const float* from = products + t * w.filter_block + f - f0;
      const Vec start = bias == nullptr ? Vec::set(0) : Vec::load(bias + f);
      transform_tile<Vec, F::kPoints, F::kOut, F::output>(
          [&](int i, int j) { return Vec::load(from + (i * F::kPoints + j) * w.point_products); },
          [&](int i, int j, Vec value) {
            if (i >= height || j >= width) return;
            float* p = to + (i * w.out_width + j) * w.filters + f;
            value = value + start;
            if (add) value = value + Vec::load(p);
            if (w.relu) value = Vec::select(Vec::not_positive(value), Vec::set(0), value);
            value.store(p);
          });
    }
  }
}

template <class F>
void winograd_blocks(const WinogradConv& w, const float* x, const float* weight, const float* bias, bool add,
                     float* y, float* scratch) {
  constexpr std::int64_t kPoints2 = F::kPoints * F::kPoints;
  float* zeros = scratch + w.zeros_at;
  for (std::int64_t c = 0; c < w.channels; ++c) zeros[c] = 0;
  float* all_panels = scratch + w.panels_at;
  float* products = scratch + w.products_at;
  const std::int64_t tiles =
      w.images * ((w.out_height + F::kOut - 1) / F::kOut) * ((w.out_width + F::kOut - 1) / F::kOut);
  for (std::int64_t first = 0; first < tiles; first += w.tile_block) {
    const std::int64_t count = first + w.tile_block < tiles ? w.tile_block : tiles - first;
    winograd_rows<F>(w, x, first, count, zeros, scratch);
    float* panels = all_panels;
    for (std::int64_t f0 = 0; f0 < w.filters; f0 += w.filter_block) {
      const std::int64_t f1 = f0 + w.filter_block < w.filters ? f0 + w.filter_block : w.filters;
      const float* rows = scratch;
      for (std::int64_t c0 = 0; c0 < w.channels; c0 += w.channel_block) {
        const std::int64_t c1 = c0 + w.channel_block < w.channels ? c0 + w.channel_block : w.channels;
        if (!w.all_weights || first == 0) winograd_panels<F>(w, weight, c0, c1, f0, f1, panels);
        for (std::int64_t p = 0; p < kPoints2; ++p) {
          multiply_panels({.rows = count,
                           .columns = f1 - f0,
                           .depth = c1 - c0,
                           .a = rows + p * w.point_rows,
                           .a_stride = w.channel_block,
                           .b = panels + p * w.point_panels,
                           .c = products + p * w.point_products,
                           .c_stride = w.filter_block,
                           .add = c0 > 0});
        }
        rows += kPoints2 * w.point_rows;
        if (w.all_weights) panels += kPoints2 * w.point_panels;
      }
      winograd_outputs<F>(w, products, first, count, f0, f1, bias, add, y);
    }
  }
}

void winograd_conv(const WinogradConv& w, const float* x, const float* weight, const float* bias, bool add,
                   float* y, float* scratch) {
  switch (w.tile) {
    case WinogradTile::kFour:
      return winograd_blocks<WinogradF4<Vec>>(w, x, weight, bias, add, y, scratch);
    case WinogradTile::kTwo:
      return winograd_blocks<WinogradF2<Vec>>(w, x, weight, bias, add, y, scratch);
    case WinogradTile::kPair:
      return winograd_blocks<WinogradPair<Vec>>(w, x, weight, bias, add, y, scratch);
  }
}

}  // namespace
}  // namespace impart::nn

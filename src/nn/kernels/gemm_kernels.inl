// Products of matrices in registers, as gemm.hpp describes them; part of kernels.inl.
namespace impart::nn {
namespace {

// A tile's sums fill the registers that its row of b and the factor of a leave.
constexpr int kTileVecs = 2;
constexpr int kTileRows = (Vec::kRegisters - kTileVecs - 1) / kTileVecs;
constexpr std::int64_t kTileColumns = kTileVecs * Vec::kWidth;

/// The sums of one tile.
template <int kRows, int kVecs>
struct Tile {
  Vec sum[kRows][kVecs];

  void clear() {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) sum[r][v] = Vec::set(0.0F);
    }
  }
  // `place(r)`: where row r starts. `last`: how many values of the last vector of each row count.
  template <class Place>
  void load(Place place, std::int64_t last) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const float* c = place(r);
#pragma GCC unroll 4
      for (int v = 0; v < kVecs - 1; ++v) sum[r][v] = Vec::load(c + v * Vec::kWidth);
      sum[r][kVecs - 1] = Vec::load_first(c + (kVecs - 1) * Vec::kWidth, last);
    }
  }
  template <class Place>
  void store(Place place, std::int64_t last) const {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      float* c = place(r);
#pragma GCC unroll 4
      for (int v = 0; v < kVecs - 1; ++v) sum[r][v].store(c + v * Vec::kWidth);
      sum[r][kVecs - 1].store_first(c + (kVecs - 1) * Vec::kWidth, last);
    }
  }
  void add_bias(const float* bias, std::int64_t last) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      const Vec b = Vec::load_first(bias + v * Vec::kWidth, v == kVecs - 1 ? last : Vec::kWidth);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) sum[r][v] = sum[r][v] + b;
    }
  }
  void rectify() {
    const Vec zero = Vec::set(0.0F);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) sum[r][v] = Vec::select(Vec::not_positive(sum[r][v]), zero, sum[r][v]);
    }
  }
};

// The sums of the tile at `a` and `b`, over the whole depth. Rows of a are addressed from every third one, as
// base + 0, 1 or 2 strides: few enough pointers for the registers.
template <int kRows, int kVecs>
void multiply(Tile<kRows, kVecs>& tile, const Product& g, const float* a, const float* b) {
  constexpr int kBases = (kRows + 2) / 3;
  const std::int64_t stride = g.a_stride;
  const float* rows[kBases];
  for (int k = 0; k < kBases; ++k) rows[k] = a + 3 * k * stride;
  const auto step = [&](std::int64_t d) {
    Vec factor[kVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) factor[v] = Vec::load(b + d * kTileColumns + v * Vec::kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vec x = Vec::set(rows[r / 3][r % 3 * stride + d]);
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) tile.sum[r][v] = Vec::fma(x, factor[v], tile.sum[r][v]);
    }
  };
  constexpr std::int64_t kUnroll = 4;
  std::int64_t left = g.depth;
  const auto advance = [&](std::int64_t by) {
    b = base(b + by * kTileColumns);
#pragma GCC unroll 8
    for (int k = 0; k < kBases; ++k) rows[k] = base(rows[k] + by);
    left -= by;
  };
  while (left >= kUnroll) {
#pragma GCC unroll 4
    for (std::int64_t d = 0; d < kUnroll; ++d) step(d);
    advance(kUnroll);
  }
  while (left > 0) {
    step(0);
    advance(1);
  }
}

template <int kRows, int kVecs>
void product_tile(const Product& g, std::int64_t row, std::int64_t column) {
  const std::int64_t last = g.columns - column - (kVecs - 1) * Vec::kWidth;
  const auto place = [&](std::int64_t r) {
    return g.c + column + (g.c_rows != nullptr ? g.c_rows[row + r] : (row + r) * g.c_stride);
  };
  Tile<kRows, kVecs> tile;
  if (g.add) {
    tile.load(place, last);
  } else {
    tile.clear();
  }
  multiply(tile, g, g.a + row * g.a_stride, g.b + column * g.depth);
  if (g.bias != nullptr) tile.add_bias(g.bias + column, last);
  if (g.relu) tile.rectify();
  tile.store(place, last);
}

/// Calls run.template operator()<rows, vecs>() for the tile height and width that are only known now.
template <int kRows = kTileRows, class Run>
void with_tile(std::int64_t rows, std::int64_t columns, Run run) {
  if constexpr (kRows == 0) {
    return;
  } else if (rows < kRows) {
    with_tile<kRows - 1>(rows, columns, run);
  } else if (columns > Vec::kWidth) {
    run.template operator()<kRows, 2>();
  } else {
    run.template operator()<kRows, 1>();
  }
}

/// Tiles of almost equal height: a last one of a row or two would take as long as a high one.
struct RowTiles {
  explicit RowTiles(std::int64_t all) : rows(all), count((all + kTileRows - 1) / kTileRows) {}
  [[nodiscard]] std::int64_t begin(std::int64_t tile) const { return rows * tile / count; }

  std::int64_t rows;
  std::int64_t count;
};

void multiply_panels(const Product& g) {
  const RowTiles tiles(g.rows);
  for (std::int64_t t = 0; t < tiles.count; ++t) {
    const std::int64_t row = tiles.begin(t);
    for (std::int64_t column = 0; column < g.columns; column += kTileColumns) {
      with_tile(tiles.begin(t + 1) - row, g.columns - column,
                [&]<int kRows, int kVecs>() { product_tile<kRows, kVecs>(g, row, column); });
    }
  }
}

// The sums of the tile over the depth of one shard. `a`: (depth, kTileRows), b (depth, kTileColumns).
template <int kRows, int kVecs>
void multiply_outer(Tile<kRows, kVecs>& tile, const float* a, const float* b, std::int64_t depth) {
  for (std::int64_t d = 0; d < depth; ++d, a += kTileRows, b += kTileColumns) {
    Vec factor[kVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) factor[v] = Vec::load(b + v * Vec::kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vec x = Vec::set(a[r]);
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) tile.sum[r][v] = Vec::fma(x, factor[v], tile.sum[r][v]);
    }
  }
}

template <int kRows, int kVecs>
void outer_tile(const OuterProduct& g, std::int64_t row, std::int64_t column) {
  constexpr std::int64_t kSize = kRows * kTileColumns;
  constexpr int kLevels = 7;  // of a tree of kMaxTileShards
  static_assert(std::int64_t{1} << (kLevels - 1) == kMaxTileShards);
  alignas(64) float waiting[kLevels][kSize];  // sums that wait for their neighbour
  const std::int64_t last = g.columns - column - (kVecs - 1) * Vec::kWidth;
  const auto place = [&](std::int64_t r) { return g.c + (row + r) * g.c_stride + column; };
  const float* a = g.a + row * g.shards * g.depth;
  Tile<kRows, kVecs> tile;
  for (std::int64_t s = 0;; ++s) {
    if (g.add) {
      tile.load(place, last);
    } else {
      tile.clear();
    }
    multiply_outer(tile, a + s * g.depth * kTileRows, g.b_memory + s * g.depth * kTileColumns, g.depth);
    int level = 0;
    for (std::int64_t block = s; block % 2 == 1; block /= 2, ++level) {
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) {
          tile.sum[r][v] = Vec::load(waiting[level] + r * kTileColumns + v * Vec::kWidth) + tile.sum[r][v];
        }
      }
    }
    if (s + 1 == g.shards) break;
    tile.store([&](int r) { return waiting[level] + r * kTileColumns; }, Vec::kWidth);
  }
  tile.store(place, last);
}

// Columns of b side by side; with less than one panel of them, the rest of a row is zero.
void pack_columns(const OuterProduct& g, std::int64_t column) {
  const std::int64_t columns = g.columns - column;
  float* to = g.b_memory;
  for (std::int64_t d = 0; d < g.shards * g.depth; ++d, to += kTileColumns) {
    const float* from = g.b[d] + column;
    if (columns >= kTileColumns) {
#pragma GCC unroll 4
      for (int v = 0; v < kTileVecs; ++v) Vec::load(from + v * Vec::kWidth).store(to + v * Vec::kWidth);
    } else {
#pragma GCC unroll 4
      for (int v = 0; v < kTileVecs; ++v) {
        const std::int64_t left = columns - v * Vec::kWidth;
        Vec::load_first(from + v * Vec::kWidth, left > 0 ? left : 0).store(to + v * Vec::kWidth);
      }
    }
  }
}

void multiply_outer_panels(const OuterProduct& g) {
  for (std::int64_t column = 0; column < g.columns; column += kTileColumns) {
    pack_columns(g, column);
    for (std::int64_t row = 0; row < g.rows; row += kTileRows) {
      const std::int64_t rows = g.rows - row < kTileRows ? g.rows - row : kTileRows;
      with_tile(rows, g.columns - column,
                [&]<int kRows, int kVecs>() { outer_tile<kRows, kVecs>(g, row, column); });
    }
  }
}

void transpose_rows(const Transpose& t) {
  constexpr std::int64_t kWidth = Vec::kWidth;
  for (std::int64_t j = 0; j < t.columns; j += kWidth) {
    const std::int64_t columns = t.columns - j < kWidth ? t.columns - j : kWidth;
    for (std::int64_t i = 0; i < t.rows; i += kWidth) {
      const std::int64_t rows = t.rows - i < kWidth ? t.rows - i : kWidth;
      Vec v[kWidth];
      const float* from = t.from + i * t.stride + j;
      if (columns == kWidth) {
        for (std::int64_t k = 0; k < kWidth; ++k)
          v[k] = k < rows ? Vec::load(from + k * t.stride) : Vec::set(0);
      } else {
        for (std::int64_t k = 0; k < kWidth; ++k)
          v[k] = Vec::load_first(from + k * t.stride, k < rows ? columns : 0);
      }
      transpose(v);
      for (std::int64_t k = 0; k < kWidth; ++k) {
        if (k < columns && t.to_row[j + k] >= 0) v[k].store_first(t.to + t.to_row[j + k] + i, rows);
      }
    }
  }
}

inline float* copy_values(const float* from, std::int64_t count, float* to) {
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= count; i += Vec::kWidth) Vec::load(from + i).store(to + i);
  if (i < count) Vec::load_first(from + i, count - i).store_first(to + i, count - i);
  return to + count;
}

inline float* clear_values(std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = 0.0F;
  return to + count;
}

// A run of which some pixels may lie outside the image. (y, x): its first pixel.
inline float* copy_clipped(const Patches& p, const PatchRun& run, const float* image, std::int64_t y,
                           std::int64_t x, float* to) {
  const std::int64_t left = x < 0 ? (-x < run.pixels ? -x : run.pixels) : 0;
  const std::int64_t past = x + run.pixels - p.width;
  const std::int64_t right = past > 0 ? (past < run.pixels ? past : run.pixels) : 0;
  const std::int64_t inside = run.pixels - left - right;
  if (y < 0 || y >= p.height || inside <= 0) return clear_values(run.pixels * p.values, to);
  if (left > 0) to = clear_values(left * p.values, to);
  to = copy_values(image + (y * p.width + x + left) * p.pixel, inside * p.values, to);
  return right > 0 ? clear_values(right * p.values, to) : to;
}

void gather_patches(const Patches& p, const PatchRows& rows) {
  // The rectangle that patches reach around their origin.
  std::int64_t top = 0, bottom = 0, left = 0, right = 0;
  for (std::int64_t k = 0; k < p.run_count; ++k) {
    const PatchRun& run = p.runs[k];
    top = run.dy < top ? run.dy : top;
    bottom = run.dy > bottom ? run.dy : bottom;
    left = run.dx < left ? run.dx : left;
    right = run.dx + run.pixels - 1 > right ? run.dx + run.pixels - 1 : right;
  }
  const std::int64_t grid = p.grid_height * p.grid_width;
  const float* image = rows.images + rows.first / grid * p.height * p.width * p.pixel;
  std::int64_t y = rows.first % grid / p.grid_width * p.step;
  std::int64_t x = rows.first % grid % p.grid_width * p.step;
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    float* to = rows.to + r * rows.stride;
    if (y + top >= 0 && y + bottom < p.height && x + left >= 0 && x + right < p.width) {
      const float* origin = image + (y * p.width + x) * p.pixel;
      for (std::int64_t k = 0; k < p.run_count; ++k) {
        const PatchRun& run = p.runs[k];
        to = copy_values(origin + (run.dy * p.width + run.dx) * p.pixel, run.pixels * p.values, to);
      }
    } else {
      for (std::int64_t k = 0; k < p.run_count; ++k) {
        to = copy_clipped(p, p.runs[k], image, y + p.runs[k].dy, x + p.runs[k].dx, to);
      }
    }
    x += p.step;
    if (x < p.grid_width * p.step) continue;
    x = 0;
    y += p.step;
    if (y < p.grid_height * p.step) continue;
    y = 0;
    image += p.height * p.width * p.pixel;
  }
}

void pack_outer(const OuterPanels& p) {
  const std::int64_t panel = p.rows * kTileRows;
  for (std::int64_t row = 0; row < p.rows; ++row) {
    const float* from = p.from + row * p.stride;
    float* to = p.to + row * kTileRows;
    std::int64_t column = 0;
    for (; column + kTileRows <= p.columns; column += kTileRows, to += panel) {
      copy_values(from + column, kTileRows, to);
    }
    copy_values(from + column, p.columns - column, to);
  }
}

void pack_rows(const RowPanels& p) {
  const std::int64_t panel = p.depth * kTileColumns;
  for (std::int64_t row = 0; row < p.rows; ++row) {
    const float* from = p.from + row * p.stride;
    float* to = p.to + row * kTileColumns;
    std::int64_t column = 0;
    for (; column + kTileColumns <= p.columns; column += kTileColumns, to += panel) {
      copy_values(from + column, kTileColumns, to);
    }
    copy_values(from + column, p.columns - column, to);
  }
}

}  // namespace
}  // namespace impart::nn

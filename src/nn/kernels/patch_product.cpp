#include "nn/kernels/patch_product.hpp"

#include <algorithm>
#include <utility>

#include "nn/kernels/kernels.hpp"
#include "nn/kernels/split_product.hpp"

namespace impart::nn {

namespace {

// A row tile of this depth, and the panel that it meets, share the nearest cache.
constexpr std::int64_t kDepth = 288;
// Packed weights that are used by all row tiles: most of the second cache.
constexpr std::int64_t kPackedFloats = 192 * 1024;
constexpr std::int64_t kColumns = 512;
constexpr std::int64_t kLine = 16;                  // floats of a cache line
constexpr std::int64_t kTileRows = 2 * kSplitRows;  // of split values

std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

// Taps side by side in a row of the image whose values are, too.
std::vector<PatchRun> joined(const std::vector<PatchRun>& taps) {
  std::vector<PatchRun> runs;
  for (const auto& tap : taps) {
    if (!runs.empty() && runs.back().dy == tap.dy && runs.back().dx + runs.back().pixels == tap.dx) {
      ++runs.back().pixels;
    } else {
      runs.push_back(tap);
    }
  }
  return runs;
}

}  // namespace

std::int64_t channels_of_block(std::int64_t channels, std::int64_t taps) {
  constexpr std::int64_t kManyTaps = 4 * kLine;
  const std::int64_t lines = std::max<std::int64_t>(kDepth / taps / kLine, taps > kManyTaps ? 0 : 1);
  return std::min(channels, std::max<std::int64_t>(lines * kLine, 1));
}

struct PatchProduct::Part {
  std::int64_t column;
  std::int64_t columns;
  std::size_t first_block;
  std::size_t last_block;  // one past it
};

PatchProduct::PatchProduct(PatchProductShape shape) : shape_(std::move(shape)), runs_(shape_.taps) {
  const auto taps = static_cast<std::int64_t>(shape_.taps.size());
  const auto& patches = shape_.patches;
  const std::int64_t channels = channels_of_block(shape_.channels, taps);
  for (std::int64_t c = 0; c < shape_.channels; c += channels) {
    blocks_.push_back({c, std::min(channels, shape_.channels - c)});
  }
  if (channels == patches.pixel) runs_ = joined(shape_.taps);
  gathers_ = taps != 1 || shape_.taps[0].dy != 0 || shape_.taps[0].dx != 0 || patches.step != 1 ||
             patches.grid_height != patches.height || patches.grid_width != patches.width;
  const std::int64_t panel = kernels().tile_columns;
  const std::int64_t depth = channels * taps;
  const std::int64_t columns = std::max<std::int64_t>(std::min(kColumns, kPackedFloats / depth), 1);
  part_columns_ = round_up(std::min(shape_.columns, columns), panel);
  part_blocks_ = std::clamp<std::int64_t>(kPackedFloats / (part_columns_ * depth), 1,
                                          static_cast<std::int64_t>(blocks_.size()));
  // Rows an odd number of cache lines apart do not fight for the same places in a cache.
  row_stride_ = round_up(depth, 2 * kLine) + kLine;
}

std::int64_t PatchProduct::block_floats() const {
  const std::int64_t depth = blocks_[0].count * static_cast<std::int64_t>(shape_.taps.size());
  return shape_.split ? split_floats(part_columns_ * split_steps(depth) * kSplitDepth)
                      : part_columns_ * depth;
}

PatchProduct::Memory PatchProduct::memory() const {
  Memory m;
  m.rows = part_blocks_ * block_floats();
  m.left = m.rows + (gathers_ ? (shape_.split ? kTileRows : kernels().tile_rows) * row_stride_ : 0);
  m.panel = m.left;
  m.floats = m.left;
  if (!shape_.split) return m;
  const std::int64_t depth = blocks_[0].count * static_cast<std::int64_t>(shape_.taps.size());
  m.panel += split_floats(kTileRows * split_steps(depth) * kSplitDepth);
  m.floats = m.panel + kernels().tile_columns * depth;
  return m;
}

std::size_t PatchProduct::scratch_bytes() const {
  return static_cast<std::size_t>(memory().floats) * sizeof(float);
}

void PatchProduct::run(const float* images, const PanelSource& weight, const Output& output,
                       std::byte* at) const {
  auto* packed = reinterpret_cast<float*>(at);
  for (std::int64_t column = 0; column < shape_.columns; column += part_columns_) {
    for (std::size_t block = 0; block < blocks_.size(); block += static_cast<std::size_t>(part_blocks_)) {
      const Part part{column, std::min(part_columns_, shape_.columns - column), block,
                      std::min(block + static_cast<std::size_t>(part_blocks_), blocks_.size())};
      shape_.split ? split_part(part, weight, packed) : pack_part(part, weight, packed);
      multiply_part(part, images, output, packed);
    }
  }
}

void PatchProduct::pack_part(const Part& part, const PanelSource& weight, float* packed) const {
  const std::int64_t panel = kernels().tile_columns;
  for (std::size_t b = part.first_block; b < part.last_block; ++b) {
    const std::int64_t depth = blocks_[b].count * static_cast<std::int64_t>(shape_.taps.size());
    float* to = packed + static_cast<std::int64_t>(b - part.first_block) * block_floats();
    // Whatever the memory held beyond the last column might be slow to multiply with.
    float* last = to + part.columns / panel * depth * panel;
    if (part.columns % panel != 0) std::fill(last, last + depth * panel, 0.0F);
    weight.write(blocks_[b], part.column, part.columns, to);
  }
}

// Panel by panel, while it is in the nearest caches.
void PatchProduct::split_part(const Part& part, const PanelSource& weight, float* packed) const {
  const std::int64_t width = kernels().tile_columns;
  float* panel = packed + memory().panel;
  for (std::size_t b = part.first_block; b < part.last_block; ++b) {
    const std::int64_t depth = blocks_[b].count * static_cast<std::int64_t>(shape_.taps.size());
    const std::int64_t tile_stride = split_steps(depth) * kSplitTile;
    auto* to = reinterpret_cast<std::uint16_t*>(packed + static_cast<std::int64_t>(b - part.first_block) *
                                                             block_floats());
    for (std::int64_t column = 0; column < part.columns; column += width) {
      const std::int64_t columns = std::min(width, part.columns - column);
      if (columns < width) std::fill(panel, panel + depth * width, 0.0F);
      weight.write(blocks_[b], part.column + column, columns, panel);
      split_right({.from = panel,
                   .stride = width,
                   .count = depth,
                   .width = columns,
                   .to = to + column / kSplitRows * tile_stride,
                   .tile_stride = tile_stride});
    }
  }
}

void PatchProduct::multiply_rows(const Product& product, std::uint16_t* left) const {
  const std::int64_t steps = split_steps(product.depth);
  split_left({.from = product.a,
              .stride = product.a_stride,
              .count = product.rows,
              .width = product.depth,
              .to = left,
              .tile_stride = steps * kSplitTile});
  multiply_split({.rows = product.rows,
                  .columns = product.columns,
                  .steps = steps,
                  .a = left,
                  .b = reinterpret_cast<const std::uint16_t*>(product.b),
                  .c = product.c,
                  .c_stride = product.c_stride,
                  .c_rows = product.c_rows,
                  .add = product.add,
                  .bias = product.bias,
                  .relu = product.relu});
}

void PatchProduct::multiply_part(const Part& part, const float* images, const Output& output,
                                 float* packed) const {
  const auto& table = kernels();
  const auto where = memory();
  float* rows = packed + where.rows;
  Patches patches = shape_.patches;
  patches.runs = runs_.data();
  patches.run_count = static_cast<std::int64_t>(runs_.size());
  const std::int64_t places = shape_.images * patches.grid_height * patches.grid_width;
  const std::int64_t tile_rows = shape_.split ? kTileRows : table.tile_rows;
  const std::int64_t tiles = (places + tile_rows - 1) / tile_rows;
  for (std::int64_t t = 0; t < tiles; ++t) {
    // Tiles of registers may have any height: equal ones leave no low last one.
    const std::int64_t first = shape_.split ? t * tile_rows : places * t / tiles;
    const std::int64_t count =
        (shape_.split ? std::min(places, first + tile_rows) : places * (t + 1) / tiles) - first;
    for (std::size_t b = part.first_block; b < part.last_block; ++b) {
      const auto& block = blocks_[b];
      const bool last = b + 1 == blocks_.size();
      Product product{.rows = count,
                      .columns = part.columns,
                      .depth = block.count * static_cast<std::int64_t>(shape_.taps.size()),
                      .a = images + first * patches.pixel + block.first,
                      .a_stride = patches.pixel,
                      .b = packed + static_cast<std::int64_t>(b - part.first_block) * block_floats(),
                      .c = output.values + part.column,
                      .c_stride = output.stride,
                      .add = output.add || b > 0,
                      .bias = last && output.bias != nullptr ? output.bias + part.column : nullptr,
                      .relu = last && output.relu};
      if (output.places != nullptr) {
        product.c_rows = output.places + first;
      } else {
        product.c += first * output.stride;
      }
      if (gathers_) {
        patches.values = block.count;
        table.gather_patches(patches, {images + block.first, first, count, rows, row_stride_});
        product.a = rows;
        product.a_stride = row_stride_;
      }
      if (shape_.split) {
        multiply_rows(product, reinterpret_cast<std::uint16_t*>(packed + where.left));
      } else {
        table.product(product);
      }
    }
  }
}

}  // namespace impart::nn

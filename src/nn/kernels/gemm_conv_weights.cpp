// "gemm" and "amx", backward weights: outer products of gradients and patches, summed over shards in
// registers.
#include <algorithm>
#include <vector>

#include "impart/core/aligned.hpp"
#include "impart/core/summation_tree.hpp"
#include "nn/kernels/gemm_convolution.hpp"
#include "nn/kernels/kernels.hpp"
#include "nn/kernels/split_product.hpp"

namespace impart::nn {

namespace {

// Pixels whose gradients and values are multiplied while they are in the second cache.
constexpr std::int64_t kPixels = 512;
constexpr std::int64_t kPixelsOfPass = 4 * kPixels;
// Gradients of weights that wait for the sum of all pixels.
constexpr std::int64_t kSumFloats = 128 * 1024;
// On AMX's tiles, where splitting takes as long as a few products, gradients stay in the second cache
// instead, and what they are multiplied with is split for as many filters as possible.
constexpr std::int64_t kSplitPixels = 1024;
constexpr std::int64_t kSplitFloats = 256 * 1024;
// Up to this many values a patch is gathered; beyond, taps are multiplied one by one where they lie.
constexpr std::int64_t kGathered = 64;

class GemmBackwardWeights final : public ConvBackwardWeights {
 public:
  GemmBackwardWeights(const ConvGeometry& g, const ConvOptions& options, bool split, Scratch& scratch);

  [[nodiscard]] std::size_t scratch_bytes() const override { return memory_.floats * sizeof(float); }
  void run(const float* x, const float* grad_y, float* grad_weight, float* grad_bias) override;

 private:
  // Shards that are summed within a tile, in registers and the nearest cache, and their pixels.
  struct Pass {
    std::int64_t first_pixel;
    std::int64_t shards;
    std::int64_t pixels;  // of one shard
    bool add;             // to the sums of the shard's pixels before these
  };
  // Where things are in the scratch, in floats.
  struct Memory {
    std::size_t panels = 0;
    std::size_t columns = 0;
    std::size_t patches = 0;
    std::size_t sums = 0;
    std::size_t partial = 0;
    std::size_t floats = 0;
  };

  [[nodiscard]] float* at(std::size_t offset) const {
    return reinterpret_cast<float*>(scratch_->data()) + offset;
  }
  void run_filters(std::int64_t group, std::int64_t first, std::int64_t count, const float* x,
                   const float* grad_y, float* grad_weight);
  void run_pass(const Pass& pass, std::int64_t count, const float* x, const float* grad_y, float* sums);
  void split_gradient(const Pass& pass, std::int64_t count, const float* grad_y);
  void multiply(const OuterProduct& product);
  void point_at_tap(const Pass& pass, std::int64_t tap, const float* x);
  void gather(const Pass& pass, const float* x);
  void unpack(const float* sums, std::int64_t count, float* grad_weight) const;

  ConvGeometry geometry_;
  bool split_;  // on AMX's tiles
  Scratch* scratch_;
  std::int64_t channels_ = 0;      // of a group
  std::int64_t taps_ = 0;          // K * K
  std::int64_t shard_pixels_ = 0;  // of grad_y
  std::int64_t pass_shards_ = 1;
  std::int64_t block_filters_ = 0;
  bool gathered_ = false;
  Patches patches_;
  std::vector<PatchRun> runs_;
  std::vector<const float*> rows_;    // of x, for each pixel of a pass
  std::vector<std::int64_t> to_row_;  // for unpack
  AlignedBuffer<float> zeros_;        // what lies outside the image
  Memory memory_;
};

GemmBackwardWeights::GemmBackwardWeights(const ConvGeometry& g, const ConvOptions& options, bool split,
                                         Scratch& scratch)
    : geometry_(g),
      split_(split),
      scratch_(&scratch),
      channels_(g.channels / g.groups),
      taps_(g.window.kernel * g.window.kernel),
      shard_pixels_(g.batch / g.shards * g.out_height * g.out_width),
      gathered_(taps_ > 1 && g.taps() <= kGathered),
      patches_{.height = g.height,
               .width = g.width,
               .pixel = g.channels,
               .values = channels_,
               .grid_height = g.out_height,
               .grid_width = g.out_width,
               .step = g.window.stride},
      zeros_(static_cast<std::size_t>(channels_)) {
  const auto& w = g.window;
  for (std::int64_t y = 0; y < w.kernel; ++y) {
    for (std::int64_t x = 0; x < w.kernel; ++x) {
      const PatchRun tap{y * w.dilation - w.padding, x * w.dilation - w.padding};
      if (x > 0 && w.dilation == 1 && g.groups == 1 && gathered_) {
        ++runs_.back().pixels;
      } else {
        runs_.push_back(tap);
      }
    }
  }
  patches_.runs = runs_.data();
  patches_.run_count = static_cast<std::int64_t>(runs_.size());
  const std::int64_t pixels_of_pass = split ? kSplitPixels : kPixelsOfPass;
  while (2 * pass_shards_ * shard_pixels_ <= pixels_of_pass &&
         2 * pass_shards_ <= std::min(g.shards, kMaxTileShards)) {
    pass_shards_ *= 2;
  }
  const std::int64_t tile = split ? 2 * kSplitRows : kernels().tile_rows;
  const std::int64_t filters = g.filters / g.groups;
  const std::int64_t pixels =
      pass_shards_ > 1 ? pass_shards_ * shard_pixels_ : std::min(kPixels, shard_pixels_);
  const std::int64_t of_tile = split ? pixels * tile : g.taps() * tile;
  const std::int64_t tiles =
      std::clamp<std::int64_t>((split ? kSplitFloats : kSumFloats) / of_tile, 1, (filters + tile - 1) / tile);
  block_filters_ = std::min(filters, tiles * tile);
  rows_.resize(static_cast<std::size_t>(pixels));
  for (std::int64_t c = 0; c < channels_; ++c) to_row_.push_back(c * taps_);

  const auto place = [&](std::size_t& offset, std::int64_t floats) {
    offset = memory_.floats;
    memory_.floats += static_cast<std::size_t>((floats + 15) / 16 * 16);
  };
  const std::int64_t sums = block_filters_ * g.taps();
  // On AMX's tiles each shard's pixels start a tile of their own.
  const std::int64_t depth =
      split ? split_floats(pass_shards_ * split_steps(pixels / pass_shards_) * kSplitDepth) : pixels;
  place(memory_.panels, depth * tiles * tile);
  place(memory_.columns, depth * kernels().tile_columns);
  place(memory_.patches, gathered_ ? pixels * g.taps() : 0);
  place(memory_.sums, taps_ > 1 ? sums : 0);
  place(memory_.partial, std::max(ShardTree::partial_floats(g.shards / pass_shards_, sums),
                                  options.bias ? ShardTree::partial_floats(g.shards, g.filters) : 0));
  scratch.reserve(scratch_bytes());
}

void GemmBackwardWeights::run(const float* x, const float* grad_y, float* grad_weight, float* grad_bias) {
  const std::int64_t filters = geometry_.filters / geometry_.groups;
  for (std::int64_t group = 0; group < geometry_.groups; ++group) {
    for (std::int64_t f = 0; f < filters; f += block_filters_) {
      const std::int64_t first = group * filters + f;
      run_filters(group, first, std::min(block_filters_, filters - f), x, grad_y,
                  grad_weight + first * geometry_.taps());
    }
  }
  if (grad_bias != nullptr) sum_bias_gradient(geometry_, grad_y, at(memory_.partial), grad_bias);
}

// The gradient (count, C, K, K) of the filters from `first` on.
void GemmBackwardWeights::run_filters(std::int64_t group, std::int64_t first, std::int64_t count,
                                      const float* x, const float* grad_y, float* grad_weight) {
  float* total = taps_ > 1 ? at(memory_.sums) : grad_weight;
  ShardTree tree(count * geometry_.taps(), total, at(memory_.partial));
  for (std::int64_t shard = 0; shard < geometry_.shards; shard += pass_shards_) {
    for (std::int64_t pixel = 0; pixel < shard_pixels_; pixel += kPixels) {
      // With several shards in a pass, there is one block of pixels.
      const std::int64_t pixels = pass_shards_ > 1 ? shard_pixels_ : std::min(kPixels, shard_pixels_ - pixel);
      const Pass pass{shard * shard_pixels_ + pixel, pass_shards_, pixels, pixel > 0};
      run_pass(pass, count, x + group * channels_, grad_y + first, tree.next());
      if (pass_shards_ > 1) break;
    }
    tree.put();
  }
  if (taps_ > 1) unpack(total, count, grad_weight);
}

// sums (count, taps, channels).
void GemmBackwardWeights::run_pass(const Pass& pass, std::int64_t count, const float* x, const float* grad_y,
                                   float* sums) {
  const auto& table = kernels();
  if (split_) {
    split_gradient(pass, count, grad_y);
  } else {
    table.pack_outer({.rows = pass.shards * pass.pixels,
                      .columns = count,
                      .from = grad_y + pass.first_pixel * geometry_.filters,
                      .stride = geometry_.filters,
                      .to = at(memory_.panels)});
  }
  OuterProduct product{.rows = count,
                       .columns = gathered_ ? geometry_.taps() : channels_,
                       .depth = pass.pixels,
                       .shards = pass.shards,
                       .a = at(memory_.panels),
                       .b = rows_.data(),
                       .b_memory = at(memory_.columns),
                       .c = sums,
                       .c_stride = geometry_.taps(),
                       .add = pass.add};
  if (gathered_) {
    gather(pass, x);
    multiply(product);
    return;
  }
  for (std::int64_t tap = 0; tap < taps_; ++tap, product.c += channels_) {
    point_at_tap(pass, tap, x);
    multiply(product);
  }
}

void GemmBackwardWeights::split_gradient(const Pass& pass, std::int64_t count, const float* grad_y) {
  const std::int64_t shard_tiles = split_steps(pass.pixels) * kSplitTile;
  for (std::int64_t s = 0; s < pass.shards; ++s) {
    split_left_transposed({.from = grad_y + (pass.first_pixel + s * pass.pixels) * geometry_.filters,
                           .stride = geometry_.filters,
                           .count = pass.pixels,
                           .width = count,
                           .to = reinterpret_cast<std::uint16_t*>(at(memory_.panels)) + s * shard_tiles,
                           .tile_stride = pass.shards * shard_tiles});
  }
}

void GemmBackwardWeights::multiply(const OuterProduct& product) {
  if (!split_) {
    kernels().outer_product(product);
    return;
  }
  const std::int64_t steps = split_steps(product.depth);
  auto* right = reinterpret_cast<std::uint16_t*>(at(memory_.columns));
  for (std::int64_t column = 0; column < product.columns; column += kSplitColumns) {
    const std::int64_t columns = std::min(kSplitColumns, product.columns - column);
    for (std::int64_t s = 0; s < product.shards; ++s) {
      split_right({.rows = product.b + s * product.depth,
                   .first = column,
                   .count = product.depth,
                   .width = columns,
                   .to = right + s * steps * kSplitTile,
                   .tile_stride = product.shards * steps * kSplitTile});
    }
    multiply_split({.rows = product.rows,
                    .columns = columns,
                    .steps = steps,
                    .shards = product.shards,
                    .a = reinterpret_cast<const std::uint16_t*>(product.a),
                    .b = right,
                    .c = product.c + column,
                    .c_stride = product.c_stride,
                    .add = product.add});
  }
}

void GemmBackwardWeights::gather(const Pass& pass, const float* x) {
  const std::int64_t pixels = pass.shards * pass.pixels;
  float* to = at(memory_.patches);
  kernels().gather_patches(patches_, {x, pass.first_pixel, pixels, to, geometry_.taps()});
  for (std::int64_t p = 0; p < pixels; ++p) rows_[static_cast<std::size_t>(p)] = to + p * geometry_.taps();
}

void GemmBackwardWeights::point_at_tap(const Pass& pass, std::int64_t tap, const float* x) {
  const auto& g = geometry_;
  const auto& run = runs_[static_cast<std::size_t>(tap)];
  std::int64_t column = pass.first_pixel % g.out_width;
  std::int64_t row = pass.first_pixel / g.out_width % g.out_height;
  const float* image = x + pass.first_pixel / (g.out_width * g.out_height) * g.height * g.width * g.channels;
  for (std::int64_t p = 0; p < pass.shards * pass.pixels;) {
    const std::int64_t y = row * g.window.stride + run.dy;
    for (; column < g.out_width && p < pass.shards * pass.pixels; ++column, ++p) {
      const std::int64_t at_x = column * g.window.stride + run.dx;
      const bool inside = y >= 0 && y < g.height && at_x >= 0 && at_x < g.width;
      rows_[static_cast<std::size_t>(p)] = inside ? image + (y * g.width + at_x) * g.channels : zeros_.data();
    }
    column = 0;
    if (++row < g.out_height) continue;
    row = 0;
    image += g.height * g.width * g.channels;
  }
}

void GemmBackwardWeights::unpack(const float* sums, std::int64_t count, float* grad_weight) const {
  for (std::int64_t f = 0; f < count; ++f) {
    kernels().transpose({.rows = taps_,
                         .columns = channels_,
                         .from = sums + f * geometry_.taps(),
                         .stride = channels_,
                         .to = grad_weight + f * geometry_.taps(),
                         .to_row = to_row_.data()});
  }
}

}  // namespace

std::unique_ptr<ConvBackwardWeights> make_gemm_backward_weights(const ConvGeometry& g,
                                                                const ConvOptions& options,
                                                                Scratch& scratch) {
  return std::make_unique<GemmBackwardWeights>(g, options, false, scratch);
}

std::unique_ptr<ConvBackwardWeights> make_amx_backward_weights(const ConvGeometry& g,
                                                               const ConvOptions& options, Scratch& scratch) {
  return std::make_unique<GemmBackwardWeights>(g, options, true, scratch);
}

}  // namespace impart::nn

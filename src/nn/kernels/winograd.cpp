#include "nn/kernels/winograd.hpp"

#include <algorithm>

#include "impart/core/summation_tree.hpp"
#include "nn/kernels/kernels.hpp"

namespace impart::nn {

namespace {

constexpr std::int64_t kLine = 16;  // floats of a cache line
constexpr std::int64_t kMaxPanel = 32;
constexpr std::int64_t kMaxBlock =
    8 * kMaxPanel;  // products of one point that are in the nearest cache at once
// Gradients of weights.
constexpr std::int64_t kManyTiles = 32;              // of a shard
constexpr std::int64_t kTiles = 64;                  // of many that are transformed at once
constexpr std::int64_t kGradientFloats = 1'200'000;  // transformed at once, of few tiles
constexpr std::int64_t kChannels = 64;               // of x transformed with them

std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

std::int64_t outputs(WinogradTile tile) { return tile == WinogradTile::kFour ? 4 : 2; }

std::int64_t points(WinogradTile tile) {
  switch (tile) {
    case WinogradTile::kFour:
      return 36;
    case WinogradTile::kTwo:
      return 16;
    case WinogradTile::kPair:
      return 9;
  }
  return 0;
}

/// Cuts the work into blocks. They change the speed, and never the bits: every sum runs over the channels in
/// their order.
void plan_blocks(WinogradConv& w) {
  const std::int64_t points2 = points(w.tile);
  const std::int64_t out = outputs(w.tile);
  const std::int64_t tiles = w.images * ((w.out_height + out - 1) / out) * ((w.out_width + out - 1) / out);
  // Few weights: all of them, and as many tiles as then fit into the second cache with their products. Many:
  // as many tiles as there are, since the weights are transformed once for each block of tiles.
  w.all_weights = w.channels * w.filters * points2 <= std::int64_t{600'000};
  const std::int64_t budget = w.all_weights ? 80'000 : 1'300'000;
  const std::int64_t most = std::max<std::int64_t>(budget / (points2 * w.channels), 28);
  const std::int64_t blocks = (tiles + most - 1) / most;
  w.tile_block = (tiles + blocks - 1) / blocks;
  w.channel_block = std::min<std::int64_t>(w.channels, w.all_weights ? 64 : 128);
  w.filter_block =
      std::min<std::int64_t>(round_up(w.filters, kMaxPanel), w.all_weights || w.tile_block > 64 ? 64 : 32);

  const std::int64_t channel_blocks = (w.channels + w.channel_block - 1) / w.channel_block;
  const std::int64_t filter_blocks = (w.filters + w.filter_block - 1) / w.filter_block;
  // The line more keeps the points' rows from falling on the same sets of the cache.
  w.point_rows = w.tile_block * w.channel_block + kLine;
  w.point_panels = w.channel_block * w.filter_block + kLine;
  w.point_products = w.tile_block * w.filter_block + kLine;
  w.panels_at = channel_blocks * points2 * w.point_rows;
  w.products_at =
      w.panels_at + points2 * w.point_panels * (w.all_weights ? channel_blocks * filter_blocks : 1);
  w.zeros_at = w.products_at + points2 * w.point_products;
  w.floats = w.zeros_at + round_up(w.channels, kLine);
}

WinogradConv forward_conv(WinogradTile tile, const ConvGeometry& g, const ConvOptions& options) {
  WinogradConv w{.tile = tile,
                 .images = g.batch,
                 .height = g.height,
                 .width = g.width,
                 .channels = g.channels,
                 .out_height = g.out_height,
                 .out_width = g.out_width,
                 .filters = g.filters,
                 .padding = g.window.padding,
                 .filter_stride = g.channels * 9,
                 .channel_stride = 9,
                 .flipped = false,
                 .relu = options.relu};
  plan_blocks(w);
  return w;
}

/// The gradient of the data is the correlation of grad_y with the weights turned around.
WinogradConv data_conv(WinogradTile tile, const ConvGeometry& g) {
  WinogradConv w{.tile = tile,
                 .images = g.batch,
                 .height = g.out_height,
                 .width = g.out_width,
                 .channels = g.filters,
                 .out_height = g.height,
                 .out_width = g.width,
                 .filters = g.channels,
                 .padding = 2 - g.window.padding,
                 .filter_stride = 9,
                 .channel_stride = g.channels * 9,
                 .flipped = true};
  plan_blocks(w);
  return w;
}

WinogradWeights plan_weights(WinogradTile tile, const ConvGeometry& g) {
  WinogradWeights w{.tile = tile,
                    .height = g.height,
                    .width = g.width,
                    .channels = g.channels,
                    .out_height = g.out_height,
                    .out_width = g.out_width,
                    .filters = g.filters,
                    .padding = g.window.padding};
  const std::int64_t points2 = points(tile);
  const std::int64_t out = outputs(tile);
  w.shard_tiles = g.batch / g.shards * ((g.out_height + out - 1) / out) * ((g.out_width + out - 1) / out);
  w.by_points = w.shard_tiles >= kManyTiles;
  w.channel_block = round_up(w.channels, kMaxPanel);
  if (w.by_points) {
    w.tile_block = std::min(w.shard_tiles, kTiles);
    // Sums over several blocks of tiles wait for the last one, for all channels.
    if (w.tile_block == w.shard_tiles) w.channel_block = kMaxPanel;
  } else {
    const std::int64_t gradients = points2 * w.filters * w.shard_tiles;
    const std::int64_t most = std::min(g.shards, kMaxGroupShards);
    while (2 * w.group_shards * gradients <= kGradientFloats && 2 * w.group_shards <= most)
      w.group_shards *= 2;
    w.tile_block = w.group_shards * w.shard_tiles;
    w.channel_block = std::min(w.channel_block, kChannels);
  }

  w.point_gradients = w.tile_block * kLine + kLine;
  w.point_inputs = w.tile_block * kernels().tile_columns + kLine;
  w.point_products = w.filters * w.channel_block + kLine;
  w.inputs_at = points2 * w.filters / kLine * w.point_gradients;
  w.products_at = w.inputs_at + points2 * w.channel_block / kernels().tile_columns * w.point_inputs;
  w.zeros_at = w.products_at + points2 * (w.by_points ? w.point_products : kMaxBlock);
  w.floats = w.zeros_at + std::max(w.channels, w.filters);
  return w;
}

std::size_t bytes(const WinogradConv& w) { return static_cast<std::size_t>(w.floats) * sizeof(float); }

class WinogradForward final : public ConvForward {
 public:
  WinogradForward(WinogradTile tile, const ConvGeometry& g, const ConvOptions& options, Scratch& scratch)
      : conv_(forward_conv(tile, g, options)), scratch_(scratch) {
    scratch.reserve(bytes(conv_));
  }

  [[nodiscard]] std::size_t scratch_bytes() const override { return bytes(conv_); }
  void load(const float* weight, const float* bias) override {
    weight_ = weight;
    bias_ = bias;
  }
  void run(const float* x, float* y) override {
    kernels().winograd_conv(conv_, x, weight_, bias_, false, y, reinterpret_cast<float*>(scratch_.data()));
  }

 private:
  WinogradConv conv_;
  Scratch& scratch_;
  const float* weight_ = nullptr;
  const float* bias_ = nullptr;
};

class WinogradBackwardData final : public ConvBackwardData {
 public:
  WinogradBackwardData(WinogradTile tile, const ConvGeometry& g, Scratch& scratch)
      : conv_(data_conv(tile, g)), scratch_(scratch) {
    scratch.reserve(bytes(conv_));
  }

  [[nodiscard]] std::size_t scratch_bytes() const override { return bytes(conv_); }
  void load(const float* weight) override { weight_ = weight; }
  void run(const float* grad_y, float* grad_x, bool add) override {
    kernels().winograd_conv(conv_, grad_y, weight_, nullptr, add, grad_x,
                            reinterpret_cast<float*>(scratch_.data()));
  }

 private:
  WinogradConv conv_;
  Scratch& scratch_;
  const float* weight_ = nullptr;
};

class WinogradBackwardWeights final : public ConvBackwardWeights {
 public:
  WinogradBackwardWeights(WinogradTile tile, const ConvGeometry& g, const ConvOptions& options,
                          Scratch& scratch)
      : geometry_(g),
        plan_(plan_weights(tile, g)),
        groups_(g.shards / plan_.group_shards),
        scratch_(scratch) {
    const std::int64_t weights = g.filters * round_up(g.channels, kMaxPanel) * 9;
    blocks_at_ = round_up(plan_.floats, kLine);
    partial_at_ = blocks_at_ + (groups_ > 1 ? weights : 0);
    floats_ = partial_at_ + std::max(ShardTree::partial_floats(groups_, weights),
                                     options.bias ? ShardTree::partial_floats(g.shards, g.filters) : 0);
    scratch.reserve(scratch_bytes());
  }

  [[nodiscard]] std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(floats_) * sizeof(float);
  }
  void run(const float* x, const float* grad_y, float* grad_weight, float* grad_bias) override {
    auto* scratch = reinterpret_cast<float*>(scratch_.data());
    if (groups_ == 1) {
      kernels().winograd_weights(plan_, x, grad_y, false, grad_weight, scratch);
    } else {
      ShardTree tree(partial_at_ - blocks_at_, scratch + blocks_at_, scratch + partial_at_);
      for (std::int64_t group = 0; group < groups_; ++group) {
        const std::int64_t shard = group * plan_.group_shards;
        kernels().winograd_weights(plan_, x + shard * geometry_.shard_input(),
                                   grad_y + shard * geometry_.shard_output(), true, tree.next(), scratch);
        tree.put();
      }
      kernels().winograd_unblock(plan_, scratch + blocks_at_, grad_weight);
    }
    if (grad_bias != nullptr) sum_bias_gradient(geometry_, grad_y, scratch + partial_at_, grad_bias);
  }

 private:
  ConvGeometry geometry_;
  WinogradWeights plan_;
  std::int64_t groups_;
  Scratch& scratch_;
  // Where things are in the scratch, in floats.
  std::int64_t blocks_at_ = 0;
  std::int64_t partial_at_ = 0;
  std::int64_t floats_ = 0;
};

/// Whole registers of channels and filters, and enough of them to pay for the transforms.
bool shape_fits(const ConvGeometry& g) {
  return g.groups == 1 && g.window.kernel == 3 && g.window.stride == 1 && g.window.dilation == 1 &&
         g.window.padding <= 1 && g.channels % kLine == 0 && g.filters % kLine == 0 && g.channels >= 32 &&
         g.filters >= 32;
}

/// How many pairs of a tap and an output there are along one axis, padding left out.
std::int64_t axis_products(std::int64_t extent, std::int64_t padding) {
  std::int64_t products = 0;
  for (std::int64_t out = 0; out < extent + 2 * padding - 2; ++out) {
    products += std::min(out - padding + 3, extent) - std::max<std::int64_t>(out - padding, 0);
  }
  return products;
}

/// How many times fewer products a tile algorithm needs than a direct one that leaves out the padding.
double saving(WinogradTile tile, const ConvGeometry& g, ConvDirection direction) {
  const bool data = direction == ConvDirection::kData;
  const std::int64_t out = outputs(tile);
  const std::int64_t height = data ? g.height : g.out_height;
  const std::int64_t width = data ? g.width : g.out_width;
  const std::int64_t tiles = ((height + out - 1) / out) * ((width + out - 1) / out);
  return static_cast<double>(axis_products(g.height, g.window.padding) *
                             axis_products(g.width, g.window.padding)) /
         static_cast<double>(tiles * points(tile));
}

/// The tile of the smaller of the two algorithms.
WinogradTile small_tile(const ConvGeometry& g) {
  const bool pair = g.height == 2 && g.width == 2 && g.window.padding == 1;
  return pair ? WinogradTile::kPair : WinogradTile::kTwo;
}

// Transforms cost about a third of the products that remain. Gradients of weights are transformed back for
// each shard, however few tiles it has.
bool pays(WinogradTile tile, const ConvGeometry& g, ConvDirection direction) {
  const bool many_points = direction == ConvDirection::kWeights && tile != WinogradTile::kPair;
  return saving(tile, g, direction) > (many_points ? 2.5 : 1.5);
}

}  // namespace

bool winograd4_serves(const ConvGeometry& g, ConvDirection /*direction*/) { return shape_fits(g); }

bool winograd2_serves(const ConvGeometry& g, ConvDirection /*direction*/) { return shape_fits(g); }

bool winograd4_wins(const ConvGeometry& g, ConvDirection direction) {
  return pays(WinogradTile::kFour, g, direction);
}

bool winograd2_wins(const ConvGeometry& g, ConvDirection direction) {
  return pays(small_tile(g), g, direction);
}

std::unique_ptr<ConvForward> make_winograd4_forward(const ConvGeometry& g, const ConvOptions& options,
                                                    Scratch& scratch) {
  return std::make_unique<WinogradForward>(WinogradTile::kFour, g, options, scratch);
}

std::unique_ptr<ConvForward> make_winograd2_forward(const ConvGeometry& g, const ConvOptions& options,
                                                    Scratch& scratch) {
  return std::make_unique<WinogradForward>(small_tile(g), g, options, scratch);
}

std::unique_ptr<ConvBackwardData> make_winograd4_data(const ConvGeometry& g, const ConvOptions& /*options*/,
                                                      Scratch& scratch) {
  return std::make_unique<WinogradBackwardData>(WinogradTile::kFour, g, scratch);
}

std::unique_ptr<ConvBackwardData> make_winograd2_data(const ConvGeometry& g, const ConvOptions& /*options*/,
                                                      Scratch& scratch) {
  return std::make_unique<WinogradBackwardData>(small_tile(g), g, scratch);
}

std::unique_ptr<ConvBackwardWeights> make_winograd4_weights(const ConvGeometry& g, const ConvOptions& options,
                                                            Scratch& scratch) {
  return std::make_unique<WinogradBackwardWeights>(WinogradTile::kFour, g, options, scratch);
}

std::unique_ptr<ConvBackwardWeights> make_winograd2_weights(const ConvGeometry& g, const ConvOptions& options,
                                                            Scratch& scratch) {
  return std::make_unique<WinogradBackwardWeights>(small_tile(g), g, options, scratch);
}

}  // namespace impart::nn

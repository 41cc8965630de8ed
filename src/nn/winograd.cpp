#include "nn/winograd.hpp"

#include <algorithm>

#include "nn/kernels.hpp"

namespace impart::nn {

namespace {

constexpr std::int64_t kLine = 16;  // floats of a cache line
constexpr std::int64_t kMaxPanel = 32;

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
  w.channel_block = std::min<std::int64_t>(w.channels, 64);
  w.filter_block = std::min<std::int64_t>(round_up(w.filters, kMaxPanel), 64);
  w.all_weights = w.channels * w.filters * points2 <= std::int64_t{600'000};
  const std::int64_t tile_floats = points2 * w.channels;
  const std::int64_t budget = w.all_weights ? 100'000 : 1'200'000;
  w.tile_block = std::min(tiles, std::max<std::int64_t>(budget / tile_floats / 14 * 14, 28));

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

/// Whole registers of channels and filters, and enough of them to pay for the transforms.
bool shape_fits(const ConvGeometry& g, ConvDirection direction) {
  return direction != ConvDirection::kWeights && g.groups == 1 && g.window.kernel == 3 &&
         g.window.stride == 1 && g.window.dilation == 1 && g.window.padding <= 1 && g.channels % kLine == 0 &&
         g.filters % kLine == 0 && g.channels >= 32 && g.filters >= 32;
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

}  // namespace

// Transforms cost about a third of the products that remain, so that a saving below 1.5 is none.
bool winograd4_serves(const ConvGeometry& g, ConvDirection direction) {
  return shape_fits(g, direction) && saving(WinogradTile::kFour, g, direction) > 1.5;
}

bool winograd2_serves(const ConvGeometry& g, ConvDirection direction) {
  return shape_fits(g, direction) && saving(small_tile(g), g, direction) > 1.5;
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

}  // namespace impart::nn

#include "nn/kernels/gemm_convolution.hpp"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "nn/kernels/kernels.hpp"
#include "nn/kernels/patch_product.hpp"
#include "nn/kernels/split_product.hpp"

namespace impart::nn {

namespace {

PatchProductShape forward_shape(const ConvGeometry& g, bool split) {
  PatchProductShape shape{.patches = {.height = g.height,
                                      .width = g.width,
                                      .pixel = g.channels,
                                      .grid_height = g.out_height,
                                      .grid_width = g.out_width,
                                      .step = g.window.stride},
                          .images = g.batch,
                          .channels = g.channels / g.groups,
                          .columns = g.filters / g.groups,
                          .split = split};
  const auto& w = g.window;
  for (std::int64_t y = 0; y < w.kernel; ++y) {
    for (std::int64_t x = 0; x < w.kernel; ++x) {
      shape.taps.push_back({y * w.dilation - w.padding, x * w.dilation - w.padding});
    }
  }
  return shape;
}

// weight (filters, channels, taps) of one group, in panels of (taps, block.count, tile_columns).
class ForwardPanels final : public PanelSource {
 public:
  ForwardPanels(const float* weight, std::int64_t channels, std::int64_t taps)
      : weight_(weight), channels_(channels), taps_(taps) {}

  void write(const ChannelBlock& block, std::int64_t column, std::int64_t columns, float* to) const override {
    constexpr std::int64_t kAtOnce = 64;
    std::int64_t to_row[kAtOnce];
    const std::int64_t width = kernels().tile_columns;
    const std::int64_t filter = channels_ * taps_;
    const std::int64_t depth = block.count * taps_;
    for (std::int64_t first = 0; first < depth; first += kAtOnce) {
      const std::int64_t count = std::min(kAtOnce, depth - first);
      for (std::int64_t k = 0; k < count; ++k) {
        to_row[k] = ((first + k) % taps_ * block.count + (first + k) / taps_) * width;
      }
      for (std::int64_t c = 0; c < columns; c += width) {
        kernels().transpose({.rows = std::min(width, columns - c),
                             .columns = count,
                             .from = weight_ + (column + c) * filter + block.first * taps_ + first,
                             .stride = filter,
                             .to = to + c * depth,
                             .to_row = to_row});
      }
    }
  }

 private:
  const float* weight_;
  std::int64_t channels_;
  std::int64_t taps_;
};

class GemmForward final : public ConvForward {
 public:
  GemmForward(const ConvGeometry& g, const ConvOptions& options, bool split, Scratch& scratch)
      : geometry_(g), relu_(options.relu), scratch_(&scratch), product_(forward_shape(g, split)) {
    scratch.reserve(scratch_bytes());
  }

  [[nodiscard]] std::size_t scratch_bytes() const override { return product_.scratch_bytes(); }
  void load(const float* weight, const float* bias) override {
    weight_ = weight;
    bias_ = bias;
  }
  void run(const float* x, float* y) override {
    const std::int64_t filters = geometry_.filters / geometry_.groups;
    const std::int64_t channels = geometry_.channels / geometry_.groups;
    const std::int64_t taps = geometry_.window.kernel * geometry_.window.kernel;
    for (std::int64_t group = 0; group < geometry_.groups; ++group) {
      const ForwardPanels weight(weight_ + group * filters * channels * taps, channels, taps);
      product_.run(x + group * channels, weight,
                   {.values = y + group * filters,
                    .stride = geometry_.filters,
                    .bias = bias_ != nullptr ? bias_ + group * filters : nullptr,
                    .relu = relu_},
                   scratch_->data());
    }
  }

 private:
  ConvGeometry geometry_;
  bool relu_;
  Scratch* scratch_;
  PatchProduct product_;
  const float* weight_ = nullptr;
  const float* bias_ = nullptr;
};

// Pixels of grad_x that lie alike to the stride. Each of them is reached by the same taps, so that they are a
// convolution of grad_y with these taps, and nothing is scattered or multiplied by zeros between pixels.
struct Phase {
  std::vector<std::int64_t> positions;  // of each of the kernel's taps among this phase's; -1: not among them
  std::vector<std::int64_t> places;     // of its pixels in grad_x; empty when they are all pixels
  std::vector<PatchProduct> product;    // none when no tap reaches these pixels
};

Phase make_phase(const ConvGeometry& g, std::int64_t phase_y, std::int64_t phase_x, bool split) {
  const auto& w = g.window;
  PatchProductShape shape{.patches = {.height = g.out_height,
                                      .width = g.out_width,
                                      .pixel = g.filters,
                                      .grid_height = (g.height - phase_y + w.stride - 1) / w.stride,
                                      .grid_width = (g.width - phase_x + w.stride - 1) / w.stride},
                          .images = g.batch,
                          .channels = g.filters / g.groups,
                          .columns = g.channels / g.groups,
                          .split = split};
  Phase phase;
  phase.positions.assign(static_cast<std::size_t>(w.kernel * w.kernel), -1);
  // Backwards, so that the places in grad_y ascend.
  for (std::int64_t y = w.kernel - 1; y >= 0; --y) {
    for (std::int64_t x = w.kernel - 1; x >= 0; --x) {
      const std::int64_t dy = phase_y + w.padding - y * w.dilation;
      const std::int64_t dx = phase_x + w.padding - x * w.dilation;
      if (dy % w.stride != 0 || dx % w.stride != 0) continue;
      phase.positions[static_cast<std::size_t>(y * w.kernel + x)] =
          static_cast<std::int64_t>(shape.taps.size());
      shape.taps.push_back({dy / w.stride, dx / w.stride});
    }
  }
  for (std::int64_t n = 0; n < g.batch && w.stride > 1; ++n) {
    for (std::int64_t y = phase_y; y < g.height; y += w.stride) {
      for (std::int64_t x = phase_x; x < g.width; x += w.stride) {
        phase.places.push_back(((n * g.height + y) * g.width + x) * g.channels);
      }
    }
  }
  if (!shape.taps.empty()) phase.product.emplace_back(std::move(shape));
  return phase;
}

// weight (filters, channels, taps) of one group, in panels of (taps of the phase, block.count filters,
// tile_columns channels).
class BackwardPanels final : public PanelSource {
 public:
  /// `memory`: one value for each of the kernel's taps.
  BackwardPanels(const float* weight, std::int64_t channels, std::span<const std::int64_t> positions,
                 std::span<std::int64_t> memory)
      : weight_(weight), channels_(channels), positions_(positions), to_row_(memory) {}

  void write(const ChannelBlock& block, std::int64_t column, std::int64_t columns, float* to) const override {
    const auto taps = static_cast<std::int64_t>(positions_.size());
    const std::int64_t width = kernels().tile_columns;
    std::int64_t depth = 0;
    for (std::size_t t = 0; t < positions_.size(); ++t) {
      to_row_[t] = positions_[t] < 0 ? -1 : positions_[t] * block.count * width;
      depth += positions_[t] < 0 ? 0 : block.count;
    }
    const float* from = weight_ + (block.first * channels_ + column) * taps;
    if (taps == 1) {
      kernels().pack_rows({.rows = block.count,
                           .columns = columns,
                           .from = from,
                           .stride = channels_,
                           .to = to,
                           .depth = depth});
      return;
    }
    for (std::int64_t f = 0; f < block.count; ++f, from += channels_ * taps) {
      for (std::int64_t c = 0; c < columns; c += width) {
        kernels().transpose({.rows = std::min(width, columns - c),
                             .columns = taps,
                             .from = from + c * taps,
                             .stride = taps,
                             .to = to + c * depth + f * width,
                             .to_row = to_row_.data()});
      }
    }
  }

 private:
  const float* weight_;
  std::int64_t channels_;
  std::span<const std::int64_t> positions_;
  std::span<std::int64_t> to_row_;
};

class GemmBackwardData final : public ConvBackwardData {
 public:
  GemmBackwardData(const ConvGeometry& g, bool split, Scratch& scratch)
      : geometry_(g),
        scratch_(&scratch),
        to_row_(static_cast<std::size_t>(g.window.kernel * g.window.kernel)) {
    for (std::int64_t y = 0; y < std::min(g.window.stride, g.height); ++y) {
      for (std::int64_t x = 0; x < std::min(g.window.stride, g.width); ++x) {
        phases_.push_back(make_phase(g, y, x, split));
      }
    }
    scratch.reserve(scratch_bytes());
    for (const auto& phase : phases_) scratch.count_table(phase.places.size() * sizeof(std::int64_t));
  }

  [[nodiscard]] std::size_t scratch_bytes() const override {
    std::size_t bytes = 0;
    for (const auto& phase : phases_) {
      for (const auto& product : phase.product) bytes = std::max(bytes, product.scratch_bytes());
    }
    return bytes;
  }
  void load(const float* weight) override { weight_ = weight; }
  void run(const float* grad_y, float* grad_x, bool add) override {
    for (const auto& phase : phases_) {
      if (phase.product.empty()) {
        for (const std::int64_t place : phase.places) {
          if (!add) std::fill(grad_x + place, grad_x + place + geometry_.channels, 0.0F);
        }
        continue;
      }
      for (std::int64_t group = 0; group < geometry_.groups; ++group) {
        const std::int64_t filters = geometry_.filters / geometry_.groups;
        const std::int64_t channels = geometry_.channels / geometry_.groups;
        const BackwardPanels weight(weight_ + group * filters * geometry_.taps(), channels, phase.positions,
                                    to_row_);
        phase.product[0].run(grad_y + group * filters, weight,
                             {.values = grad_x + group * channels,
                              .stride = geometry_.channels,
                              .places = phase.places.empty() ? nullptr : phase.places.data(),
                              .add = add},
                             scratch_->data());
      }
    }
  }

 private:
  ConvGeometry geometry_;
  Scratch* scratch_;
  std::vector<Phase> phases_;
  std::vector<std::int64_t> to_row_;  // for BackwardPanels
  const float* weight_ = nullptr;
};

}  // namespace

bool gemm_serves(const ConvGeometry& /*g*/, ConvDirection /*direction*/) { return true; }

std::unique_ptr<ConvForward> make_gemm_forward(const ConvGeometry& g, const ConvOptions& options,
                                               Scratch& scratch) {
  return std::make_unique<GemmForward>(g, options, false, scratch);
}

std::unique_ptr<ConvBackwardData> make_gemm_backward_data(const ConvGeometry& g,
                                                          const ConvOptions& /*options*/, Scratch& scratch) {
  return std::make_unique<GemmBackwardData>(g, false, scratch);
}

bool amx_serves(const ConvGeometry& /*g*/, ConvDirection /*direction*/) { return have_amx(); }

std::unique_ptr<ConvForward> make_amx_forward(const ConvGeometry& g, const ConvOptions& options,
                                              Scratch& scratch) {
  return std::make_unique<GemmForward>(g, options, true, scratch);
}

std::unique_ptr<ConvBackwardData> make_amx_backward_data(const ConvGeometry& g,
                                                         const ConvOptions& /*options*/, Scratch& scratch) {
  return std::make_unique<GemmBackwardData>(g, true, scratch);
}

}  // namespace impart::nn

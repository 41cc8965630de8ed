// Convolutions the slow way, in double, for the tests of the kernels.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "nn/kernels/convolution.hpp"

namespace impart::nn::testing {

inline ConvGeometry conv_geometry(std::int64_t batch, std::int64_t channels, std::int64_t extent,
                                  std::int64_t filters, const Window& window, std::int64_t groups = 1) {
  return {.batch = batch,
          .channels = channels,
          .height = extent,
          .width = extent,
          .filters = filters,
          .out_height = window.output_extent(extent),
          .out_width = window.output_extent(extent),
          .window = window,
          .groups = groups};
}

/// Calls body(x, weight, y) with the places of each product's factors and of the sum it belongs to.
template <class Body>
void for_each_product(const ConvGeometry& g, Body body) {
  const std::int64_t k = g.window.kernel;
  const std::int64_t inputs = g.channels / g.groups;
  const std::int64_t outputs = g.filters / g.groups;
  for (std::int64_t pixel = 0; pixel < g.batch * g.out_height * g.out_width; ++pixel) {
    const std::int64_t n = pixel / (g.out_height * g.out_width);
    const std::int64_t oy = pixel / g.out_width % g.out_height;
    const std::int64_t ox = pixel % g.out_width;
    for (std::int64_t tap = 0; tap < k * k; ++tap) {
      const std::int64_t iy = oy * g.window.stride - g.window.padding + tap / k * g.window.dilation;
      const std::int64_t ix = ox * g.window.stride - g.window.padding + tap % k * g.window.dilation;
      if (iy < 0 || ix < 0 || iy >= g.height || ix >= g.width) continue;
      const std::int64_t x = ((n * g.height + iy) * g.width + ix) * g.channels;
      for (std::int64_t f = 0; f < g.filters; ++f) {
        for (std::int64_t c = 0; c < inputs; ++c) {
          body(static_cast<std::size_t>(x + f / outputs * inputs + c),
               static_cast<std::size_t>((f * inputs + c) * k * k + tap),
               static_cast<std::size_t>(pixel * g.filters + f));
        }
      }
    }
  }
}

using Doubles = std::vector<double>;

inline Doubles plain_forward(const ConvGeometry& g, std::span<const float> x, std::span<const float> weight) {
  Doubles y(static_cast<std::size_t>(g.shard_output() * g.shards));
  for_each_product(g, [&](std::size_t i, std::size_t w, std::size_t o) {
    y[o] += static_cast<double>(x[i]) * static_cast<double>(weight[w]);
  });
  return y;
}

inline Doubles plain_data(const ConvGeometry& g, std::span<const float> grad_y,
                          std::span<const float> weight) {
  Doubles grad_x(static_cast<std::size_t>(g.shard_input() * g.shards));
  for_each_product(g, [&](std::size_t i, std::size_t w, std::size_t o) {
    grad_x[i] += static_cast<double>(grad_y[o]) * static_cast<double>(weight[w]);
  });
  return grad_x;
}

inline Doubles plain_weights(const ConvGeometry& g, std::span<const float> x, std::span<const float> grad_y) {
  Doubles grad_weight(static_cast<std::size_t>(g.filters * g.taps()));
  for_each_product(g, [&](std::size_t i, std::size_t w, std::size_t o) {
    grad_weight[w] += static_cast<double>(grad_y[o]) * static_cast<double>(x[i]);
  });
  return grad_weight;
}

}  // namespace impart::nn::testing

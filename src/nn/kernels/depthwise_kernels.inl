// Depthwise convolutions (depthwise.hpp); part of kernels.inl.
namespace impart::nn {
namespace {

constexpr std::int64_t kChunkRows = 8;  // outputs whose inputs are looked up at once
constexpr std::int64_t kChunkColumns = 32;
constexpr std::int64_t kDepthwiseTaps = 3;  // a side of the windows with kernels of their own
constexpr std::int64_t kMaxDepthwiseStride = 2;
constexpr std::int64_t kChannelsAtOnce = 128;  // whose weights stay in the nearest cache

/// A rectangle of outputs of one image, and where the inputs of its windows start (channel 0 of a pixel, or
/// zeros for padding).
struct WindowChunk {
  std::int64_t image = 0;
  std::int64_t y = 0;
  std::int64_t x = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const float* pixels[(kChunkRows - 1) * kMaxDepthwiseStride + kDepthwiseTaps]
                     [(kChunkColumns - 1) * kMaxDepthwiseStride + kDepthwiseTaps];

  void look_up(const ConvGeometry& g, const float* batch, const float* zeros) {
    const std::int64_t stride = g.window.stride;
    for (std::int64_t i = 0; i < (rows - 1) * stride + kDepthwiseTaps; ++i) {
      const std::int64_t iy = y * stride - g.window.padding + i;
      const float* row = batch + (image * g.height + iy) * g.width * g.channels;
      for (std::int64_t j = 0; j < (columns - 1) * stride + kDepthwiseTaps; ++j) {
        const std::int64_t ix = x * stride - g.window.padding + j;
        const bool inside = iy >= 0 && iy < g.height && ix >= 0 && ix < g.width;
        pixels[i][j] = inside ? row + ix * g.channels : zeros;
      }
    }
  }
};

/// Calls body(chunk) for all outputs of a batch.
template <class Body>
void for_each_chunk(const ConvGeometry& g, const float* x, const float* zeros, Body body) {
  WindowChunk chunk;
  for (chunk.image = 0; chunk.image < g.batch; ++chunk.image) {
    for (chunk.y = 0; chunk.y < g.out_height; chunk.y += kChunkRows) {
      chunk.rows = chunk.y + kChunkRows < g.out_height ? kChunkRows : g.out_height - chunk.y;
      for (chunk.x = 0; chunk.x < g.out_width; chunk.x += kChunkColumns) {
        chunk.columns = chunk.x + kChunkColumns < g.out_width ? kChunkColumns : g.out_width - chunk.x;
        chunk.look_up(g, x, zeros);
        body(chunk);
      }
    }
  }
}

template <class V>
void depthwise_store(const DepthwiseConv& d, V value, float* to) {
  if (d.add) value = value + V::load(to);
  if (d.relu) value = V::select(V::not_positive(value), V::set(0), value);
  value.store(to);
}

/// kRows x kColumns outputs at (row, column) of a chunk, for the channels [c0, c1). Each is one chain of
/// fused multiply-adds over the taps in their order.
template <class V, int kStride, int kRows, int kColumns>
void depthwise_tile(const DepthwiseConv& d, const WindowChunk& chunk, std::int64_t row, std::int64_t column,
                    std::int64_t c0, std::int64_t c1, float* y) {
  constexpr int kTaps = kDepthwiseTaps;
  constexpr int kInColumns = (kColumns - 1) * kStride + kTaps;
  const std::int64_t channels = d.geometry.channels;
  for (std::int64_t c = c0; c < c1; c += V::kWidth) {
    const V start = d.bias == nullptr ? V::set(0) : V::load(d.bias + c);
    V sum[kRows][kColumns];
    for (auto& of_row : sum) {
      for (V& value : of_row) value = start;
    }
    V weight[kTaps * kTaps];
#pragma GCC unroll 16
    for (int t = 0; t < kTaps * kTaps; ++t) weight[t] = V::load(d.weight + t * channels + c);
#pragma GCC unroll 8
    for (int i = 0; i < (kRows - 1) * kStride + kTaps; ++i) {
      V in[kInColumns];
#pragma GCC unroll 16
      for (int j = 0; j < kInColumns; ++j) {
        in[j] = V::load(chunk.pixels[row * kStride + i][column * kStride + j] + c);
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const int ky = i - r * kStride;
        if (ky < 0 || ky >= kTaps) continue;
#pragma GCC unroll 4
        for (int kx = 0; kx < kTaps; ++kx) {
#pragma GCC unroll 8
          for (int k = 0; k < kColumns; ++k) {
            sum[r][k] = V::fma(weight[ky * kTaps + kx], in[k * kStride + kx], sum[r][k]);
          }
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int k = 0; k < kColumns; ++k) {
        depthwise_store(d, sum[r][k], y + (r * d.geometry.out_width + k) * channels + c);
      }
    }
  }
}

template <int kStride, int kRows, int kColumns>
void depthwise_channels(const DepthwiseConv& d, const WindowChunk& chunk, std::int64_t row,
                        std::int64_t column, std::int64_t c0, std::int64_t c1, float* y) {
  const std::int64_t whole = c0 + (c1 - c0) / Vec::kWidth * Vec::kWidth;
  depthwise_tile<Vec, kStride, kRows, kColumns>(d, chunk, row, column, c0, whole, y);
  depthwise_tile<One, kStride, kRows, kColumns>(d, chunk, row, column, whole, c1, y);
}

template <int kStride, int kRows>
void depthwise_row(const DepthwiseConv& d, const WindowChunk& chunk, std::int64_t row, std::int64_t c0,
                   std::int64_t c1, float* y) {
  constexpr int kColumns = 4;
  std::int64_t column = 0;
  for (; column + kColumns <= chunk.columns; column += kColumns) {
    depthwise_channels<kStride, kRows, kColumns>(d, chunk, row, column, c0, c1,
                                                 y + column * d.geometry.channels);
  }
  for (; column < chunk.columns; ++column) {
    depthwise_channels<kStride, kRows, 1>(d, chunk, row, column, c0, c1, y + column * d.geometry.channels);
  }
}

template <int kStride>
void depthwise_windows(const DepthwiseConv& d, const float* x, float* y) {
  constexpr int kRows = Vec::kRegisters == 32 ? 2 : 1;
  const ConvGeometry& g = d.geometry;
  for_each_chunk(g, x, d.zeros, [&](const WindowChunk& chunk) {
    float* to = y + ((chunk.image * g.out_height + chunk.y) * g.out_width + chunk.x) * g.channels;
    for (std::int64_t c0 = 0; c0 < g.channels; c0 += kChannelsAtOnce) {
      const std::int64_t c1 = c0 + kChannelsAtOnce < g.channels ? c0 + kChannelsAtOnce : g.channels;
      std::int64_t row = 0;
      for (; row + kRows <= chunk.rows; row += kRows) {
        depthwise_row<kStride, kRows>(d, chunk, row, c0, c1, to + row * g.out_width * g.channels);
      }
      for (; row < chunk.rows; ++row) {
        depthwise_row<kStride, 1>(d, chunk, row, c0, c1, to + row * g.out_width * g.channels);
      }
    }
  });
}

/// The products that make up one value of any depthwise convolution: pairs of a pixel and a tap.
struct PixelTaps {
  std::int64_t count = 0;
  const float* pixels[kMaxDepthwiseKernel * kMaxDepthwiseKernel];
  const float* weights[kMaxDepthwiseKernel * kMaxDepthwiseKernel];

  void add(const float* pixel, const float* weight) {
    pixels[count] = pixel;
    weights[count++] = weight;
  }
};

void depthwise_pixel(const DepthwiseConv& d, const PixelTaps& taps, float* to) {
  for_each_channel(d.geometry.channels, [&]<class V>(std::int64_t c) {
    V sum = d.bias == nullptr ? V::set(0) : V::load(d.bias + c);
    for (std::int64_t k = 0; k < taps.count; ++k) {
      sum = V::fma(V::load(taps.weights[k] + c), V::load(taps.pixels[k] + c), sum);
    }
    depthwise_store(d, sum, to + c);
  });
}

/// Calls body(input pixel, tap) for all products of one output pixel.
template <class Body>
void for_each_tap(const ConvGeometry& g, std::int64_t image, std::int64_t oy, std::int64_t ox, Body body) {
  for (std::int64_t ky = 0; ky < g.window.kernel; ++ky) {
    const std::int64_t iy = oy * g.window.stride - g.window.padding + ky * g.window.dilation;
    if (iy < 0 || iy >= g.height) continue;
    for (std::int64_t kx = 0; kx < g.window.kernel; ++kx) {
      const std::int64_t ix = ox * g.window.stride - g.window.padding + kx * g.window.dilation;
      if (ix < 0 || ix >= g.width) continue;
      body((image * g.height + iy) * g.width + ix, ky * g.window.kernel + kx);
    }
  }
}

void depthwise_forward(const DepthwiseConv& d, const float* x, float* y) {
  const ConvGeometry& g = d.geometry;
  if (g.window.kernel == kDepthwiseTaps && g.window.dilation == 1) {
    if (g.window.stride == 1) return depthwise_windows<1>(d, x, y);
    if (g.window.stride == 2) return depthwise_windows<2>(d, x, y);
  }
  for (std::int64_t image = 0; image < g.batch; ++image) {
    for (std::int64_t oy = 0; oy < g.out_height; ++oy) {
      for (std::int64_t ox = 0; ox < g.out_width; ++ox, y += g.channels) {
        PixelTaps taps;
        for_each_tap(g, image, oy, ox, [&](std::int64_t pixel, std::int64_t tap) {
          taps.add(x + pixel * g.channels, d.weight + tap * g.channels);
        });
        depthwise_pixel(d, taps, y);
      }
    }
  }
}

/// The gradient of the data for 3x3 windows, stride 2 and padding 1: each 2x2 block of inputs, at even
/// places, takes part in the same 2x2 outputs.
void depthwise_data_by_two(const DepthwiseConv& d, const float* grad_y, float* grad_x) {
  const ConvGeometry& g = d.geometry;
  const auto gradient = [&](std::int64_t image, std::int64_t oy, std::int64_t ox) {
    const bool inside = oy < g.out_height && ox < g.out_width;
    return inside ? grad_y + ((image * g.out_height + oy) * g.out_width + ox) * g.channels : d.zeros;
  };
  for (std::int64_t image = 0; image < g.batch; ++image) {
    for (std::int64_t oy = 0; 2 * oy < g.height; ++oy) {
      for (std::int64_t ox = 0; 2 * ox < g.width; ++ox) {
        const float* here = gradient(image, oy, ox);
        const float* right = gradient(image, oy, ox + 1);
        const float* below = gradient(image, oy + 1, ox);
        const float* across = gradient(image, oy + 1, ox + 1);
        float* to = grad_x + ((image * g.height + 2 * oy) * g.width + 2 * ox) * g.channels;
        const bool has_right = 2 * ox + 1 < g.width;
        const bool has_below = 2 * oy + 1 < g.height;
        for_each_channel(g.channels, [&]<class V>(std::int64_t c) {
          const auto weight = [&](int tap) { return V::load(d.weight + tap * g.channels + c); };
          const V a = V::load(here + c);
          const V b = V::load(right + c);
          const V e = V::load(below + c);
          const V f = V::load(across + c);
          depthwise_store(d, weight(4) * a, to + c);
          if (has_right) {
            depthwise_store(d, V::fma(weight(3), b, weight(5) * a), to + g.channels + c);
          }
          if (!has_below) return;
          float* next = to + g.width * g.channels + c;
          depthwise_store(d, V::fma(weight(1), e, weight(7) * a), next);
          if (!has_right) return;
          const V left_column = V::fma(weight(2), e, weight(8) * a);
          depthwise_store(d, V::fma(weight(0), f, V::fma(weight(6), b, left_column)), next + g.channels);
        });
      }
    }
  }
}

void depthwise_data(const DepthwiseConv& d, const float* grad_y, float* grad_x) {
  const ConvGeometry& g = d.geometry;
  const Window& w = g.window;
  if (w.kernel == kDepthwiseTaps && w.stride == 2 && w.padding == 1 && w.dilation == 1) {
    return depthwise_data_by_two(d, grad_y, grad_x);
  }
  // Calls body(output, tap) along one axis.
  const auto along = [&](std::int64_t in, std::int64_t extent, auto body) {
    for (std::int64_t tap = 0; tap < w.kernel; ++tap) {
      const std::int64_t distance = in + w.padding - tap * w.dilation;
      if (distance < 0) break;
      const std::int64_t out = distance / w.stride;
      if (out * w.stride == distance && out < extent) body(out, tap);
    }
  };
  for (std::int64_t image = 0; image < g.batch; ++image) {
    for (std::int64_t iy = 0; iy < g.height; ++iy) {
      for (std::int64_t ix = 0; ix < g.width; ++ix, grad_x += g.channels) {
        PixelTaps taps;
        along(iy, g.out_height, [&](std::int64_t oy, std::int64_t ky) {
          along(ix, g.out_width, [&](std::int64_t ox, std::int64_t kx) {
            taps.add(grad_y + ((image * g.out_height + oy) * g.out_width + ox) * g.channels,
                     d.weight + (ky * w.kernel + kx) * g.channels);
          });
        });
        depthwise_pixel(d, taps, grad_x);
      }
    }
  }
}

/// Adds a chunk's products to sums (9, C), for the channels of one register.
template <class V, int kStride>
void depthwise_chunk_sums(const ConvGeometry& g, const WindowChunk& chunk, const float* grad_y,
                          std::int64_t c, float* sums) {
  constexpr int kTaps = kDepthwiseTaps;
  V sum[kTaps * kTaps];
#pragma GCC unroll 16
  for (int t = 0; t < kTaps * kTaps; ++t) sum[t] = V::load(sums + t * g.channels + c);
  for (std::int64_t row = 0; row < chunk.rows; ++row) {
    const float* grad = grad_y + row * g.out_width * g.channels + c;
    const float* const* in[kTaps];
    for (int ky = 0; ky < kTaps; ++ky) in[ky] = chunk.pixels[row * kStride + ky];
    for (std::int64_t column = 0; column < chunk.columns; ++column, grad += g.channels) {
      const V factor = V::load(grad);
#pragma GCC unroll 4
      for (int ky = 0; ky < kTaps; ++ky) {
#pragma GCC unroll 4
        for (int kx = 0; kx < kTaps; ++kx) {
          V& to = sum[ky * kTaps + kx];
          to = V::fma(factor, V::load(in[ky][column * kStride + kx] + c), to);
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < kTaps * kTaps; ++t) sum[t].store(sums + t * g.channels + c);
}

template <int kStride>
void depthwise_window_sums(const DepthwiseConv& d, const float* x, const float* grad_y, float* sums) {
  const ConvGeometry& g = d.geometry;
  for_each_chunk(g, x, d.zeros, [&](const WindowChunk& chunk) {
    const float* grad =
        grad_y + ((chunk.image * g.out_height + chunk.y) * g.out_width + chunk.x) * g.channels;
    for_each_channel(g.channels, [&]<class V>(std::int64_t c) {
      depthwise_chunk_sums<V, kStride>(g, chunk, grad, c, sums);
    });
  });
}

void depthwise_weights(const DepthwiseConv& d, const float* x, const float* grad_y, float* sums) {
  const ConvGeometry& g = d.geometry;
  for (std::int64_t i = 0; i < g.window.kernel * g.window.kernel * g.channels; ++i) sums[i] = 0;
  if (g.window.kernel == kDepthwiseTaps && g.window.dilation == 1) {
    if (g.window.stride == 1) return depthwise_window_sums<1>(d, x, grad_y, sums);
    if (g.window.stride == 2) return depthwise_window_sums<2>(d, x, grad_y, sums);
  }
  for (std::int64_t image = 0; image < g.batch; ++image) {
    for (std::int64_t oy = 0; oy < g.out_height; ++oy) {
      for (std::int64_t ox = 0; ox < g.out_width; ++ox, grad_y += g.channels) {
        for_each_tap(g, image, oy, ox, [&](std::int64_t pixel, std::int64_t tap) {
          for_each_channel(g.channels, [&]<class V>(std::int64_t c) {
            float* to = sums + tap * g.channels + c;
            V::fma(V::load(grad_y + c), V::load(x + pixel * g.channels + c), V::load(to)).store(to);
          });
        });
      }
    }
  }
}

}  // namespace
}  // namespace impart::nn

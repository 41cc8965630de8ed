// Max pooling of channels-last images; part of kernels.inl.
namespace impart::nn {
namespace {

/// The part of a window that lies within the image.
struct Span {
  std::int64_t first;
  std::int64_t last;  // one past
};

Span clip(std::int64_t start, std::int64_t kernel, std::int64_t extent) {
  return {start < 0 ? 0 : start, start + kernel > extent ? extent : start + kernel};
}

/// Calls body(window origin y, x, output pixel) for all windows of a batch's images.
template <class Body>
void for_each_window(const PoolGeometry& g, Body body) {
  for (std::int64_t n = 0; n < g.batch; ++n) {
    for (std::int64_t oy = 0; oy < g.out_height; ++oy) {
      for (std::int64_t ox = 0; ox < g.out_width; ++ox) {
        body(n, oy * g.window.stride - g.window.padding, ox * g.window.stride - g.window.padding,
             (n * g.out_height + oy) * g.out_width + ox);
      }
    }
  }
}

template <class V>
void max_of_window(const PoolGeometry& g, const float* image, std::int64_t y0, std::int64_t x0, bool relu,
                   std::int64_t c, float* y, std::uint8_t* index) {
  const Span rows = clip(y0, g.window.kernel, g.height);
  const Span columns = clip(x0, g.window.kernel, g.width);
  auto place = [&](std::int64_t iy, std::int64_t ix) {
    return V::index(static_cast<std::int32_t>((iy - y0) * g.window.kernel + ix - x0));
  };
  V best = V::load(image + (rows.first * g.width + columns.first) * g.channels + c);
  auto winner = place(rows.first, columns.first);
  for (std::int64_t iy = rows.first; iy < rows.last; ++iy) {
    for (std::int64_t ix = columns.first; ix < columns.last; ++ix) {
      const V value = V::load(image + (iy * g.width + ix) * g.channels + c);
      const auto better = V::greater_or_nan(value, best);
      best = V::select(better, value, best);
      winner = V::select(better, place(iy, ix), winner);
    }
  }
  if (relu) {
    const auto cut = V::not_positive(best);
    best = V::select(cut, V::set(0), best);
    winner = V::select(cut, V::index(kNoWinner), winner);
  }
  best.store(y + c);
  V::store_index(index + c, winner);
}

void max_pool_forward(const PoolGeometry& g, bool relu, const float* x, float* y, std::uint8_t* index) {
  for_each_window(g, [&](std::int64_t n, std::int64_t y0, std::int64_t x0, std::int64_t pixel) {
    const float* image = x + n * g.height * g.width * g.channels;
    std::int64_t c = 0;
    for (; c + Vec::kWidth <= g.channels; c += Vec::kWidth) {
      max_of_window<Vec>(g, image, y0, x0, relu, c, y + pixel * g.channels, index + pixel * g.channels);
    }
    for (; c < g.channels; ++c) {
      max_of_window<One>(g, image, y0, x0, relu, c, y + pixel * g.channels, index + pixel * g.channels);
    }
  });
}

template <class V, bool kAdd>
void spread_to_window(const PoolGeometry& g, const float* grad_y, const std::uint8_t* index, std::int64_t y0,
                      std::int64_t x0, std::int64_t c, float* image) {
  const V grad = V::load(grad_y + c);
  const auto winner = V::load_index(index + c);
  const Span rows = clip(y0, g.window.kernel, g.height);
  const Span columns = clip(x0, g.window.kernel, g.width);
  for (std::int64_t iy = rows.first; iy < rows.last; ++iy) {
    for (std::int64_t ix = columns.first; ix < columns.last; ++ix) {
      const auto here = V::index(static_cast<std::int32_t>((iy - y0) * g.window.kernel + ix - x0));
      float* to = image + (iy * g.width + ix) * g.channels + c;
      const V value = V::select(V::equal(winner, here), grad, V::set(0));
      (kAdd ? V::load(to) + value : value).store(to);
    }
  }
}

template <bool kAdd>
void max_pool_spread(const PoolGeometry& g, const float* grad_y, const std::uint8_t* index, float* grad_x) {
  for_each_window(g, [&](std::int64_t n, std::int64_t y0, std::int64_t x0, std::int64_t pixel) {
    float* image = grad_x + n * g.height * g.width * g.channels;
    const float* grad = grad_y + pixel * g.channels;
    const std::uint8_t* winners = index + pixel * g.channels;
    std::int64_t c = 0;
    for (; c + Vec::kWidth <= g.channels; c += Vec::kWidth) {
      spread_to_window<Vec, kAdd>(g, grad, winners, y0, x0, c, image);
    }
    for (; c < g.channels; ++c) spread_to_window<One, kAdd>(g, grad, winners, y0, x0, c, image);
  });
}

/// Zeroes what lies right of and below the last windows.
void zero_margin(const PoolGeometry& g, float* grad_x) {
  const std::int64_t used_width = g.out_width * g.window.stride;
  const std::int64_t used_height = g.out_height * g.window.stride;
  for (std::int64_t n = 0; n < g.batch; ++n) {
    float* image = grad_x + n * g.height * g.width * g.channels;
    for (std::int64_t iy = 0; iy < used_height && used_width < g.width; ++iy) {
      std::memset(image + (iy * g.width + used_width) * g.channels, 0,
                  sizeof(float) * static_cast<std::size_t>((g.width - used_width) * g.channels));
    }
    std::memset(image + used_height * g.width * g.channels, 0,
                sizeof(float) * static_cast<std::size_t>((g.height - used_height) * g.width * g.channels));
  }
}

void max_pool_backward(const PoolGeometry& g, const float* grad_y, const std::uint8_t* index, float* grad_x) {
  const bool tiles = g.window.stride == g.window.kernel && g.window.padding == 0;
  if (tiles) {  // every value is written exactly once
    max_pool_spread<false>(g, grad_y, index, grad_x);
    zero_margin(g, grad_x);
  } else {
    std::memset(grad_x, 0,
                sizeof(float) * static_cast<std::size_t>(g.batch * g.height * g.width * g.channels));
    max_pool_spread<true>(g, grad_y, index, grad_x);
  }
}

}  // namespace
}  // namespace impart::nn

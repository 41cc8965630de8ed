// Batch norm's passes over a table of rows (norm.hpp); part of kernels.inl.
namespace impart::nn {
namespace {

constexpr std::int64_t kRowsAtOnce = 8;    // whose sums stay in registers
constexpr std::int64_t kRowsInFloat = 64;  // whose sums are float, before they go into double

/// Two sums over rows at once, for each channel: add.template operator()<V>(row, c, first, second) adds one
/// row's values. `sums` and `part` are (2, channels).
template <class Add>
void sum_rows(std::int64_t rows, std::int64_t channels, float* part, double* sums, Add add) {
  for (std::int64_t c = 0; c < 2 * channels; ++c) sums[c] = 0;
  for (std::int64_t r0 = 0; r0 < rows; r0 += kRowsInFloat) {
    const std::int64_t r1 = r0 + kRowsInFloat < rows ? r0 + kRowsInFloat : rows;
    for (std::int64_t c = 0; c < 2 * channels; ++c) part[c] = 0;
    for (std::int64_t r = r0; r < r1; r += kRowsAtOnce) {
      const std::int64_t last = r + kRowsAtOnce < r1 ? r + kRowsAtOnce : r1;
      for_each_channel(channels, [&]<class V>(std::int64_t c) {
        V first = V::set(0);
        V second = V::set(0);
        for (std::int64_t row = r; row < last; ++row) add.template operator()<V>(row, c, first, second);
        (V::load(part + c) + first).store(part + c);
        (V::load(part + channels + c) + second).store(part + channels + c);
      });
    }
    for (std::int64_t c = 0; c < 2 * channels; ++c) sums[c] += static_cast<double>(part[c]);
  }
}

// Sums of differences from the mean of the first rows: close enough to the mean of all for the variance to
// keep its digits, and known before the one pass over the rest.
void norm_measure(std::int64_t rows, std::int64_t channels, const float* x, float* work, double* sums) {
  float* center = work + 2 * channels;
  const std::int64_t first_rows = rows < kRowsInFloat ? rows : kRowsInFloat;
  sum_rows(first_rows, channels, work, sums, [&]<class V>(std::int64_t row, std::int64_t c, V& sum, V&) {
    sum = sum + V::load(x + row * channels + c);
  });
  for (std::int64_t c = 0; c < channels; ++c) {
    center[c] = static_cast<float>(sums[c] / static_cast<double>(first_rows));
  }
  sum_rows(rows, channels, work, sums, [&]<class V>(std::int64_t row, std::int64_t c, V& sum, V& squares) {
    const V difference = V::load(x + row * channels + c) - V::load(center + c);
    sum = sum + difference;
    squares = V::fma(difference, difference, squares);
  });
  const auto count = static_cast<double>(rows);
  for (std::int64_t c = 0; c < channels; ++c) {
    const double shift = sums[c] / count;
    const double variance = sums[channels + c] / count - shift * shift;
    sums[c] = static_cast<double>(center[c]) + shift;
    sums[channels + c] = variance < 0 ? 0 : variance;
  }
}

template <Rectifier kRectifier, class V>
V rectify(V value) {
  if constexpr (kRectifier != Rectifier::kNone) value = V::select(V::not_positive(value), V::set(0), value);
  if constexpr (kRectifier == Rectifier::kRelu6)
    value = V::select(V::greater(value, V::set(6)), V::set(6), value);
  return value;
}

/// What a rectifier lets pass of the gradient of its output, given its output or input.
template <Rectifier kRectifier, class V>
V passed(V grad, V value) {
  if constexpr (kRectifier != Rectifier::kNone)
    grad = V::select(V::greater(value, V::set(0)), grad, V::set(0));
  if constexpr (kRectifier == Rectifier::kRelu6)
    grad = V::select(V::greater(V::set(6), value), grad, V::set(0));
  return grad;
}

/// Calls run.template operator()<rectifier>().
template <class Run>
void with_rectifier(Rectifier rectifier, Run run) {
  switch (rectifier) {
    case Rectifier::kNone:
      return run.template operator()<Rectifier::kNone>();
    case Rectifier::kRelu:
      return run.template operator()<Rectifier::kRelu>();
    case Rectifier::kRelu6:
      return run.template operator()<Rectifier::kRelu6>();
  }
}

/// Calls body.template operator()<V>(first row, one past the last, c) for blocks of rows, so that what
/// belongs to a channel is loaded once a block.
template <class Body>
void for_each_block(const Norm& n, Body body) {
  for (std::int64_t r = 0; r < n.rows; r += kRowsAtOnce) {
    const std::int64_t last = r + kRowsAtOnce < n.rows ? r + kRowsAtOnce : n.rows;
    for_each_channel(n.channels, [&]<class V>(std::int64_t c) { body.template operator()<V>(r, last, c); });
  }
}

void norm_forward(const Norm& n, const float* x, const float* other, float* y) {
  with_rectifier(n.rectifier, [&]<Rectifier kRectifier>() {
    for_each_block(n, [&]<class V>(std::int64_t first, std::int64_t last, std::int64_t c) {
      const V mean = V::load(n.mean + c);
      const V scale = V::load(n.scale + c);
      const V bias = V::load(n.bias + c);
      for (std::int64_t i = first * n.channels + c; i < last * n.channels; i += n.channels) {
        V value = V::fma(V::load(x + i) - mean, scale, bias);
        if (other != nullptr) value = value + V::load(other + i);
        rectify<kRectifier>(value).store(y + i);
      }
    });
  });
}

void norm_gradient_sums(const Norm& n, const float* x, const float* y, float* grad_y, float* work,
                        double* sums) {
  with_rectifier(n.rectifier, [&]<Rectifier kRectifier>() {
    sum_rows(
        n.rows, n.channels, work, sums, [&]<class V>(std::int64_t row, std::int64_t c, V& sum, V& weighted) {
          const std::int64_t i = row * n.channels + c;
          const V difference = V::load(x + i) - V::load(n.mean + c);
          V grad = V::load(grad_y + i);
          if (y != nullptr) {
            grad = passed<kRectifier>(grad, V::load(y + i));
            grad.store(grad_y + i);
          } else {
            grad = passed<kRectifier>(grad, V::fma(difference, V::load(n.scale + c), V::load(n.bias + c)));
          }
          sum = sum + grad;
          weighted = V::fma(grad, difference, weighted);
        });
  });
}

void norm_backward(const Norm& n, const NormGradient& g, const float* x, const float* grad_y, bool add,
                   float* grad_x) {
  with_rectifier(n.rectifier, [&]<Rectifier kRectifier>() {
    for_each_block(n, [&]<class V>(std::int64_t first, std::int64_t last, std::int64_t c) {
      const V mean = V::load(n.mean + c);
      const V scale = V::load(n.scale + c);
      const V bias = V::load(n.bias + c);
      const V grad_scale = V::load(g.grad_scale + c);
      const V x_scale = V::load(g.x_scale + c);
      const V offset = V::load(g.offset + c);
      for (std::int64_t i = first * n.channels + c; i < last * n.channels; i += n.channels) {
        const V difference = V::load(x + i) - mean;
        const V grad = passed<kRectifier>(V::load(grad_y + i), V::fma(difference, scale, bias));
        V value = V::fma(grad_scale, grad, V::fma(x_scale, difference, offset));
        if (add) value = value + V::load(grad_x + i);
        value.store(grad_x + i);
      }
    });
  });
}

}  // namespace
}  // namespace impart::nn

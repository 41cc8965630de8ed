// Convolutions that end in a max pooling, on channels-last images; part of kernels.inl.
namespace impart::nn {
namespace {

/// Hides where a pointer comes from, so that the compiler addresses relative to it: it would rather keep each
/// of a patch's addresses in a register, and run out of registers.
template <class T>
T* base(T* p) {
  __asm__("" : "+r"(p));
  return p;
}

/// What one pass of a kernel holds in registers: kVecs registers of each of kRows rows of a patch.
template <int kRows, int kVecs>
struct Patch {
  Vec v[kRows][kVecs];

  /// Calls body(value, address) for each register's place in the patch at `p`.
  template <class Float, class Body>
  static void visit(Float* p, std::int64_t row_stride, Body body) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      Float* row = base(p + r * row_stride);
#pragma GCC unroll 16
      for (int k = 0; k < kVecs; ++k) body(r, k, row + k * Vec::kWidth);
    }
  }
};

constexpr int kMaxVecs =
    12;  // of one row; with the factor and the addresses, AVX2's 16 registers are then full

// `image` and `of_filters` point at the part of the patch that this pass works on.
template <int kRows, int kVecs>
void winner_weights_part(const PatchGeometry& g, const WinnerLists& winners, const float* image,
                         float* of_filters) {
  using Part = Patch<kRows, kVecs>;
  const std::int64_t stride = g.row_stride;
  for (std::int64_t f = 0; f < g.filters; ++f) {
    float* to = of_filters + f * g.rows * g.row_floats;
    Part sum;
    Part::visit(to, g.row_floats, [&](int r, int k, float* p) { sum.v[r][k] = Vec::load(p); });
    const Winner* winner = winners.list + f * winners.stride;
    for (const Winner* end = winner + winners.counts[f]; winner != end; ++winner) {
      const Vec grad = Vec::set(winner->grad);
      Part::visit(image + winner->patch, stride, [&](int r, int k, const float* p) {
        sum.v[r][k] = Vec::fma(grad, Vec::load(p), sum.v[r][k]);
      });
    }
    Part::visit(to, g.row_floats, [&](int r, int k, float* p) { sum.v[r][k].store(p); });
  }
}

template <int kRows, int kVecs>
void winner_data_part(const PatchGeometry& g, const WinnerLists& winners, float* image,
                      const float* of_filters) {
  using Part = Patch<kRows, kVecs>;
  const std::int64_t stride = g.row_stride;
  for (std::int64_t f = 0; f < g.filters; ++f) {
    Part weight;
    Part::visit(of_filters + f * g.rows * g.row_floats, g.row_floats,
                [&](int r, int k, const float* p) { weight.v[r][k] = Vec::load(p); });
    const Winner* winner = winners.list + f * winners.stride;
    for (const Winner* end = winner + winners.counts[f]; winner != end; ++winner) {
      const Vec grad = Vec::set(winner->grad);
      Part::visit(image + winner->patch, stride,
                  [&](int r, int k, float* p) { Vec::fma(grad, weight.v[r][k], Vec::load(p)).store(p); });
    }
  }
}

/// Calls part.template operator()<rows, registers>() for a number of registers known only at run time.
template <int kRows, int kVecs, class Part>
void with_vecs(std::int64_t vecs, Part part) {
  if constexpr (kVecs > 0) {
    if (vecs == kVecs) {
      part.template operator()<kRows, kVecs>();
    } else {
      with_vecs<kRows, kVecs - 1>(vecs, part);
    }
  }
}

/// Cuts a patch into parts that fit the registers, all rows at once if they do: body(part, its offset in a
/// filter's weights, its offset in the image).
template <class Body>
void for_each_part(const PatchGeometry& g, Body body) {
  const std::int64_t row_vecs = g.row_floats / Vec::kWidth;
  if constexpr (Vec::kRegisters >= 32) {
    if (g.rows == 3 && row_vecs <= 8) {
      with_vecs<3, 8>(row_vecs,
                      [&]<int kRows, int kVecs>() { body.template operator()<kRows, kVecs>(0, 0); });
      return;
    }
  }
  const std::int64_t parts = (row_vecs + kMaxVecs - 1) / kMaxVecs;
  for (std::int64_t row = 0; row < g.rows; ++row) {
    for (std::int64_t part = 0; part < parts; ++part) {
      const std::int64_t first = row_vecs * part / parts;
      const std::int64_t last = row_vecs * (part + 1) / parts;
      with_vecs<1, kMaxVecs>(last - first, [&]<int kRows, int kVecs>() {
        body.template operator()<kRows, kVecs>(row * g.row_floats + first * Vec::kWidth,
                                               row * g.row_stride + first * Vec::kWidth);
      });
    }
  }
}

void winner_weights(const PatchGeometry& g, const WinnerLists& winners, const float* image, float* sum) {
  for_each_part(g, [&]<int kRows, int kVecs>(std::int64_t in_filter, std::int64_t in_image) {
    winner_weights_part<kRows, kVecs>(g, winners, image + in_image, sum + in_filter);
  });
}

void winner_data(const PatchGeometry& g, const WinnerLists& winners, const float* weight, float* grad_image) {
  for_each_part(g, [&]<int kRows, int kVecs>(std::int64_t in_filter, std::int64_t in_image) {
    winner_data_part<kRows, kVecs>(g, winners, grad_image + in_image, weight + in_filter);
  });
}

/// The four values of a pooling window for kVecs registers of filters, and their maximum.
template <class V, int kVecs>
void few_taps_window(const FewTaps& t, const float* patch, const float* weight, const float* bias, float* y,
                     std::uint8_t* index) {
  V value[4][kVecs];
  for (int k = 0; k < kVecs; ++k) {
    const V start = bias == nullptr ? V::set(0) : V::load(bias + k * V::kWidth);
    for (auto& row : value) row[k] = start;
  }
  const float* x[4];
  for (int p = 0; p < 4; ++p) x[p] = base(patch + t.window_offsets[p]);
  const std::int32_t* offset = base(t.tap_offsets);
  for (const std::int32_t* end = offset + t.taps; offset != end; ++offset, weight += t.filters) {
    V w[kVecs];
    for (int k = 0; k < kVecs; ++k) w[k] = V::load(weight + k * V::kWidth);
    for (int p = 0; p < 4; ++p) {
      const V factor = V::set(x[p][*offset]);
      for (int k = 0; k < kVecs; ++k) value[p][k] = V::fma(factor, w[k], value[p][k]);
    }
  }
  for (int k = 0; k < kVecs; ++k) {
    V best = value[0][k];
    auto winner = V::index(0);
    for (int p = 1; p < 4; ++p) {
      const auto better = V::greater_or_nan(value[p][k], best);
      best = V::select(better, value[p][k], best);
      winner = V::select(better, V::index(p), winner);
    }
    if (t.relu) {
      const auto cut = V::not_positive(best);
      best = V::select(cut, V::set(0), best);
      winner = V::select(cut, V::index(kNoWinner), winner);
    }
    best.store(y + k * V::kWidth);
    V::store_index(index + k * V::kWidth, winner);
  }
}

template <class V, int kVecs>
void few_taps_filters(const FewTaps& t, const float* image, const float* weight, const float* bias, float* y,
                      std::uint8_t* index) {
  for (std::int64_t oy = 0; oy < t.out_height; ++oy) {
    for (std::int64_t ox = 0; ox < t.out_width; ++ox) {
      const std::int64_t to = (oy * t.out_width + ox) * t.filters;
      few_taps_window<V, kVecs>(t, image + oy * t.y_step + ox * t.x_step, weight, bias, y + to, index + to);
    }
  }
}

void few_taps_forward(const FewTaps& t, const float* image, const float* weight, const float* bias, float* y,
                      std::uint8_t* index) {
  std::int64_t f = 0;
  auto run = [&](auto filters, std::int64_t width) {
    for (; f + width <= t.filters; f += width) {
      filters(t, image, weight + f, bias == nullptr ? nullptr : bias + f, y + f, index + f);
    }
  };
  run(few_taps_filters<Vec, 2>, 2 * Vec::kWidth);
  run(few_taps_filters<Vec, 1>, Vec::kWidth);
  run(few_taps_filters<One, 1>, 1);
}

constexpr int kMaxTaps = Vec::kRegisters == 32 ? 12 : 6;  // sums of two registers each

/// kTaps sums for kVecs registers of filters, over all windows of an image.
template <class V, int kVecs, int kTaps>
void few_taps_sums(const FewTaps& t, const std::int32_t* offsets, const float* image, const float* grad_y,
                   const std::uint8_t* index, float* sum) {
  V sums[kTaps][kVecs];
  for (int tap = 0; tap < kTaps; ++tap) {
    for (int k = 0; k < kVecs; ++k) sums[tap][k] = V::load(sum + tap * t.filters + k * V::kWidth);
  }
  for (std::int64_t oy = 0; oy < t.out_height; ++oy) {
    for (std::int64_t ox = 0; ox < t.out_width; ++ox) {
      const std::int64_t from = (oy * t.out_width + ox) * t.filters;
      const float* patch = image + oy * t.y_step + ox * t.x_step;
      for (int p = 0; p < 4; ++p) {
        V mine[kVecs];
        for (int k = 0; k < kVecs; ++k) {
          const auto winner = V::load_index(index + from + k * V::kWidth);
          const V grad = V::load(grad_y + from + k * V::kWidth);
          mine[k] = V::select(V::equal(winner, V::index(p)), grad, V::set(0));
        }
        const float* x = base(patch + t.window_offsets[p]);
        for (int tap = 0; tap < kTaps; ++tap) {
          const V factor = V::set(x[offsets[tap]]);
          for (int k = 0; k < kVecs; ++k) sums[tap][k] = V::fma(factor, mine[k], sums[tap][k]);
        }
      }
    }
  }
  for (int tap = 0; tap < kTaps; ++tap) {
    for (int k = 0; k < kVecs; ++k) sums[tap][k].store(sum + tap * t.filters + k * V::kWidth);
  }
}

template <class V, int kVecs, int kTaps>
void few_taps_part(std::int64_t taps, const FewTaps& t, const std::int32_t* offsets, const float* image,
                   const float* grad_y, const std::uint8_t* index, float* sum) {
  if constexpr (kTaps > 0) {
    if (taps == kTaps) {
      few_taps_sums<V, kVecs, kTaps>(t, offsets, image, grad_y, index, sum);
    } else {
      few_taps_part<V, kVecs, kTaps - 1>(taps, t, offsets, image, grad_y, index, sum);
    }
  }
}

void few_taps_weights(const FewTaps& t, const float* image, const float* grad_y, const std::uint8_t* index,
                      float* sum) {
  const std::int64_t parts = (t.taps + kMaxTaps - 1) / kMaxTaps;
  for (std::int64_t part = 0; part < parts; ++part) {
    const std::int64_t first = t.taps * part / parts;
    const std::int64_t taps = t.taps * (part + 1) / parts - first;
    std::int64_t f = 0;
    auto run = [&](auto filters, std::int64_t width) {
      for (; f + width <= t.filters; f += width) {
        filters(taps, t, t.tap_offsets + first, image, grad_y + f, index + f, sum + first * t.filters + f);
      }
    };
    run(few_taps_part<Vec, 2, kMaxTaps>, 2 * Vec::kWidth);
    run(few_taps_part<Vec, 1, kMaxTaps>, Vec::kWidth);
    run(few_taps_part<One, 1, kMaxTaps>, 1);
  }
}

}  // namespace
}  // namespace impart::nn

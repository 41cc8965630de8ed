// The one-dimensional transforms of Winograd's algorithms (Lavin and Gray 2015, section 4), which are applied
// to the columns and then to the rows of a tile; part of kernels.inl.
//
// y = A' [(G g) * (B' d)] correlates kIn values d with three taps g to kOut values y by kPoints products. The
// gradient of the taps comes from the same matrices: dg = G' [(A dy) * (B' d)]. For points p_i,
// A' holds their powers, G the powers over N_i = prod_{j != i} (p_i - p_j), and B' the coefficients of
// prod_{j != i} (x - p_j); the point at infinity takes leading coefficients.
namespace impart::nn {
namespace {

inline constexpr int kWinogradTaps = 3;

/// F(4, 3) with the points 0, +-a, +-b and infinity.
///
/// With a = 5/8 and b = 3/2, which float holds exactly, the error is half of what the customary 1 and 2 give.
template <class V>
struct WinogradF4 {
  static constexpr int kOut = 4;
  static constexpr int kIn = 6;
  static constexpr int kPoints = 6;
  static constexpr float kA = 0.625F;
  static constexpr float kB = 1.5F;
  static constexpr float kA2 = kA * kA;
  static constexpr float kB2 = kB * kB;
  static constexpr float kNormA = 1 / (2 * kA2 * (kA2 - kB2));
  static constexpr float kNormB = 1 / (2 * kB2 * (kB2 - kA2));

  static void input(const V (&d)[kIn], V (&r)[kPoints]) {
    const V even_a = V::fma(V::set(-kB2), d[2], d[4]);
    const V odd_a = V::fma(V::set(-kB2), d[1], d[3]);
    const V even_b = V::fma(V::set(-kA2), d[2], d[4]);
    const V odd_b = V::fma(V::set(-kA2), d[1], d[3]);
    r[0] = V::fma(V::set(kA2 * kB2), d[0], V::fma(V::set(-kA2 - kB2), d[2], d[4]));
    r[1] = V::fma(V::set(kA), odd_a, even_a);
    r[2] = V::fma(V::set(-kA), odd_a, even_a);
    r[3] = V::fma(V::set(kB), odd_b, even_b);
    r[4] = V::fma(V::set(-kB), odd_b, even_b);
    r[5] = V::fma(V::set(kA2 * kB2), d[1], V::fma(V::set(-kA2 - kB2), d[3], d[5]));
  }

  static void weight(const V (&g)[kWinogradTaps], V (&r)[kPoints]) {
    const V even_a = V::fma(V::set(kA2 * kNormA), g[2], V::set(kNormA) * g[0]);
    const V even_b = V::fma(V::set(kB2 * kNormB), g[2], V::set(kNormB) * g[0]);
    r[0] = V::set(1 / (kA2 * kB2)) * g[0];
    r[1] = V::fma(V::set(kA * kNormA), g[1], even_a);
    r[2] = V::fma(V::set(-kA * kNormA), g[1], even_a);
    r[3] = V::fma(V::set(kB * kNormB), g[1], even_b);
    r[4] = V::fma(V::set(-kB * kNormB), g[1], even_b);
    r[5] = g[2];
  }

  static void output(const V (&m)[kPoints], V (&y)[kOut]) {
    const V sum_a = m[1] + m[2];
    const V sum_b = m[3] + m[4];
    const V odd_a = V::set(kA) * (m[1] - m[2]);
    const V odd_b = V::set(kB) * (m[3] - m[4]);
    y[0] = m[0] + (sum_a + sum_b);
    y[1] = odd_a + odd_b;
    y[2] = V::fma(V::set(kA2), sum_a, V::set(kB2) * sum_b);
    y[3] = V::fma(V::set(kA2), odd_a, V::fma(V::set(kB2), odd_b, m[5]));
  }

  static void grad(const V (&dy)[kOut], V (&r)[kPoints]) {
    const V even_a = V::fma(V::set(kA2), dy[2], dy[0]);
    const V even_b = V::fma(V::set(kB2), dy[2], dy[0]);
    const V odd_a = V::fma(V::set(kA2), dy[3], dy[1]);
    const V odd_b = V::fma(V::set(kB2), dy[3], dy[1]);
    r[0] = dy[0];
    r[1] = V::fma(V::set(kA), odd_a, even_a);
    r[2] = V::fma(V::set(-kA), odd_a, even_a);
    r[3] = V::fma(V::set(kB), odd_b, even_b);
    r[4] = V::fma(V::set(-kB), odd_b, even_b);
    r[5] = dy[3];
  }

  static void taps(const V (&m)[kPoints], V (&g)[kWinogradTaps]) {
    const V sum_a = V::set(kNormA) * (m[1] + m[2]);
    const V sum_b = V::set(kNormB) * (m[3] + m[4]);
    g[0] = V::fma(V::set(1 / (kA2 * kB2)), m[0], sum_a + sum_b);
    g[1] = V::fma(V::set(kA * kNormA), m[1] - m[2], V::set(kB * kNormB) * (m[3] - m[4]));
    g[2] = V::fma(V::set(kA2), sum_a, V::fma(V::set(kB2), sum_b, m[5]));
  }
};

/// F(2, 3) with the points 0, +-1 and infinity: the matrices of Lavin and Gray's equation 7.
template <class V>
struct WinogradF2 {
  static constexpr int kOut = 2;
  static constexpr int kIn = 4;
  static constexpr int kPoints = 4;

  static void input(const V (&d)[kIn], V (&r)[kPoints]) {
    r[0] = d[0] - d[2];
    r[1] = d[1] + d[2];
    r[2] = d[2] - d[1];
    r[3] = d[3] - d[1];
  }

  static void weight(const V (&g)[kWinogradTaps], V (&r)[kPoints]) {
    const V even = V::set(0.5F) * (g[0] + g[2]);
    r[0] = g[0];
    r[1] = V::fma(V::set(0.5F), g[1], even);
    r[2] = V::fma(V::set(-0.5F), g[1], even);
    r[3] = g[2];
  }

  static void output(const V (&m)[kPoints], V (&y)[kOut]) {
    y[0] = m[0] + (m[1] + m[2]);
    y[1] = (m[1] - m[2]) + m[3];
  }

  static void grad(const V (&dy)[kOut], V (&r)[kPoints]) {
    r[0] = dy[0];
    r[1] = dy[0] + dy[1];
    r[2] = dy[0] - dy[1];
    r[3] = dy[1];
  }

  static void taps(const V (&m)[kPoints], V (&g)[kWinogradTaps]) {
    g[0] = V::fma(V::set(0.5F), m[1] + m[2], m[0]);
    g[1] = V::set(0.5F) * (m[1] - m[2]);
    g[2] = V::fma(V::set(0.5F), m[1] + m[2], m[3]);
  }
};

/// A whole image of extent 2 with padding 1: the taps form the Toeplitz matrix (g1 g2; g0 g1), for which
/// three products do, with g1, g2 - g1 and g0 - g1 (Karatsuba's). The padding takes no part, so kIn is 2.
template <class V>
struct WinogradPair {
  static constexpr int kOut = 2;
  static constexpr int kIn = 2;
  static constexpr int kPoints = 3;

  static void input(const V (&d)[kIn], V (&r)[kPoints]) {
    r[0] = d[0] + d[1];
    r[1] = d[1];
    r[2] = d[0];
  }

  static void weight(const V (&g)[kWinogradTaps], V (&r)[kPoints]) {
    r[0] = g[1];
    r[1] = g[2] - g[1];
    r[2] = g[0] - g[1];
  }

  static void output(const V (&m)[kPoints], V (&y)[kOut]) {
    y[0] = m[0] + m[1];
    y[1] = m[0] + m[2];
  }

  static void grad(const V (&dy)[kOut], V (&r)[kPoints]) {
    r[0] = dy[0] + dy[1];
    r[1] = dy[0];
    r[2] = dy[1];
  }

  static void taps(const V (&m)[kPoints], V (&g)[kWinogradTaps]) {
    g[0] = m[2];
    g[1] = m[0] - (m[1] + m[2]);
    g[2] = m[1];
  }
};

/// kTransform along the columns, then along the rows, of a tile whose values load(row, column) gives and
/// store(row, column, value) takes.
template <class V, int kFrom, int kTo, void (*kTransform)(const V (&)[kFrom], V (&)[kTo]), class Load,
          class Store>
void transform_tile(Load load, Store store) {
  V half[kTo][kFrom];
#pragma GCC unroll 6
  for (int column = 0; column < kFrom; ++column) {
    V from[kFrom];
    V to[kTo];
#pragma GCC unroll 6
    for (int row = 0; row < kFrom; ++row) from[row] = load(row, column);
    kTransform(from, to);
#pragma GCC unroll 6
    for (int row = 0; row < kTo; ++row) half[row][column] = to[row];
  }
#pragma GCC unroll 6
  for (int row = 0; row < kTo; ++row) {
    V to[kTo];
    kTransform(half[row], to);
#pragma GCC unroll 6
    for (int column = 0; column < kTo; ++column) store(row, column, to[column]);
  }
}

}  // namespace
}  // namespace impart::nn

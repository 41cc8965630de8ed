#include "nn/kernels/kernels.hpp"

#include <algorithm>

#include "nn/kernels/isa.hpp"
#include "nn/kernels/kernel_tables.hpp"

namespace impart::nn {

PoolGeometry pool_geometry(const Window& window, std::int64_t batch, const ImageShape& image) {
  PoolGeometry g;
  g.batch = batch;
  g.channels = image.channels;
  g.height = image.height;
  g.width = image.width;
  g.out_height = window.output_extent(image.height);
  g.out_width = window.output_extent(image.width);
  g.window = window;
  return g;
}

const KernelTable& kernels() {
  static const KernelTable& table = have_avx512() ? kernels_avx512() : kernels_base();
  return table;
}

void transpose_images(const float* from, std::int64_t images, std::int64_t rows, std::int64_t columns,
                      float* to) {
  constexpr std::int64_t kTile = 16;  // a cache line of each of 16 rows
  for (std::int64_t image = 0; image < images; ++image) {
    for (std::int64_t r0 = 0; r0 < rows; r0 += kTile) {
      const std::int64_t r1 = std::min(r0 + kTile, rows);
      for (std::int64_t c = 0; c < columns; ++c) {
        for (std::int64_t r = r0; r < r1; ++r) to[c * rows + r] = from[r * columns + c];
      }
    }
    from += rows * columns;
    to += rows * columns;
  }
}

}  // namespace impart::nn

// Products of matrices against plain loops.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "nn/kernels/kernels.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

std::size_t size_of(std::int64_t n) { return static_cast<std::size_t>(n); }

// (depth, columns) row-major to panels of `width` columns; what lies beyond the last column is NaN.
Values panels(std::span<const float> matrix, std::int64_t depth, std::int64_t columns, std::int64_t width) {
  const std::int64_t count = (columns + width - 1) / width;
  Values packed(size_of(count * depth * width), std::nanf(""));
  for (std::int64_t d = 0; d < depth; ++d) {
    for (std::int64_t c = 0; c < columns; ++c) {
      packed[size_of((c / width * depth + d) * width + c % width)] = matrix[size_of(d * columns + c)];
    }
  }
  return packed;
}

// One chain of fused multiply-adds, as the kernels promise.
float chain(std::span<const float> a, std::int64_t a_step, std::span<const float> b, std::int64_t b_step,
            std::int64_t depth, float sum) {
  for (std::int64_t d = 0; d < depth; ++d) {
    sum = std::fma(a[size_of(d * a_step)], b[size_of(d * b_step)], sum);
  }
  return sum;
}

struct Extents {
  std::int64_t rows, columns, depth;
};
constexpr std::array<Extents, 9> kExtents{{{1, 1, 1},
                                           {3, 5, 2},
                                           {14, 32, 7},
                                           {6, 16, 64},
                                           {15, 33, 9},
                                           {29, 47, 31},
                                           {40, 64, 4},
                                           {5, 100, 288},
                                           {57, 8, 13}}};

TEST(Gemm, ProductIsOneChainForEachValue) {
  const auto& table = kernels();
  for (const auto& [rows, columns, depth] : kExtents) {
    const std::int64_t a_stride = depth + 3;
    const std::int64_t c_stride = columns + 2;
    const auto a = normal_values(size_of(rows * a_stride), 1);
    const auto b = normal_values(size_of(depth * columns), 2);
    const auto bias = normal_values(size_of(columns), 3);
    const auto before = normal_values(size_of(rows * c_stride), 4);
    const auto packed = panels(b, depth, columns, table.tile_columns);
    for (const bool add : {false, true}) {
      for (const bool last : {false, true}) {
        auto c = before;
        table.product({.rows = rows,
                       .columns = columns,
                       .depth = depth,
                       .a = a.data(),
                       .a_stride = a_stride,
                       .b = packed.data(),
                       .c = c.data(),
                       .c_stride = c_stride,
                       .add = add,
                       .bias = last ? bias.data() : nullptr,
                       .relu = last});
        auto expected = before;
        for (std::int64_t i = 0; i < rows; ++i) {
          for (std::int64_t j = 0; j < columns; ++j) {
            float& value = expected[size_of(i * c_stride + j)];
            value = chain(std::span(a).subspan(size_of(i * a_stride)), 1, std::span(b).subspan(size_of(j)),
                          columns, depth, add ? value : 0.0F);
            if (last) value = std::max(value + bias[size_of(j)], 0.0F);
          }
        }
        ASSERT_EQ(c, expected) << rows << "x" << columns << "x" << depth << (add ? " added" : "");
      }
    }
  }
}

TEST(Gemm, OuterProductSumsShardsInATree) {
  const auto& table = kernels();
  for (const auto& [rows, columns, depth] : kExtents) {
    for (const std::int64_t shards : {1, 2, 8}) {
      const auto a = normal_values(size_of(shards * depth * rows), 1);
      const auto b = normal_values(size_of(shards * depth * columns), 2);
      const auto packed = panels(a, shards * depth, rows, table.tile_rows);
      std::vector<const float*> b_rows;
      for (std::int64_t d = 0; d < shards * depth; ++d) b_rows.push_back(b.data() + d * columns);
      Values memory(size_of(shards * depth * table.tile_columns), std::nanf(""));
      std::vector<float> c(size_of(rows * columns));
      table.outer_product({.rows = rows,
                           .columns = columns,
                           .depth = depth,
                           .shards = shards,
                           .a = packed.data(),
                           .b = b_rows.data(),
                           .b_memory = memory.data(),
                           .c = c.data(),
                           .c_stride = columns});
      std::vector<float> expected(c.size());
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < columns; ++j) {
          std::vector<float> sums;
          for (std::int64_t s = 0; s < shards; ++s) {
            sums.push_back(chain(std::span(a).subspan(size_of(s * depth * rows + i)), rows,
                                 std::span(b).subspan(size_of(s * depth * columns + j)), columns, depth, 0));
          }
          for (std::size_t half = sums.size() / 2; half > 0; half /= 2) {
            for (std::size_t k = 0; k < half; ++k) sums[k] = sums[2 * k] + sums[2 * k + 1];
          }
          expected[size_of(i * columns + j)] = sums[0];
        }
      }
      ASSERT_EQ(c, expected) << rows << "x" << columns << "x" << depth << ", " << shards << " shards";
    }
  }
}

TEST(Gemm, TransposeWritesRowsWhereTold) {
  for (const auto& [rows, columns, spare] : kExtents) {
    const std::int64_t stride = columns + spare;
    const auto from = normal_values(size_of(rows * stride), 1);
    std::vector<std::int64_t> to_row;
    for (std::int64_t j = 0; j < columns; ++j) to_row.push_back((columns - 1 - j) * rows);
    std::vector<float> to(size_of(rows * columns));
    kernels().transpose({.rows = rows,
                         .columns = columns,
                         .from = from.data(),
                         .stride = stride,
                         .to = to.data(),
                         .to_row = to_row.data()});
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        ASSERT_EQ(to[size_of(to_row[size_of(j)] + i)], from[size_of(i * stride + j)])
            << rows << "x" << columns;
      }
    }
  }
}

}  // namespace
}  // namespace impart::nn::testing

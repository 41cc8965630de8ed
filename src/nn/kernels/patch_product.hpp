// PatchProduct: gathered patches of images times a packed weight, the inside of "gemm" forward and backward.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "impart/nn/layer.hpp"
#include "nn/kernels/gemm.hpp"

namespace impart::nn {

/// What PatchProduct computes: for each place of the grid, a row of `columns` values.
struct PatchProductShape {
  Patches patches;                  ///< `values` and `runs` are PatchProduct's own affair
  std::vector<PatchRun> taps = {};  ///< of one pixel each, in the order of the depth
  std::int64_t images = 0;
  std::int64_t channels = 0;  ///< taken of each pixel
  std::int64_t columns = 0;
  bool split = false;  ///< multiply on AMX's tiles (split_product.hpp)
};

/// Part of the depth: all taps of the channels [first, first + count), tap by tap.
struct ChannelBlock {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// The weight that patches are multiplied with, as the panels of Product::b.
class PanelSource {
 public:
  virtual ~PanelSource() = default;
  /// Writes the panels, each (taps, block.count) x tile_columns, of the columns [column, column + columns),
  /// where `column` is the first of a panel. What is beyond the last column is zero already.
  virtual void write(const ChannelBlock& block, std::int64_t column, std::int64_t columns,
                     float* to) const = 0;
};

class PatchProduct {
 public:
  explicit PatchProduct(PatchProductShape shape);

  [[nodiscard]] std::size_t scratch_bytes() const;

  /// Where results go, and what is done with them at last.
  struct Output {
    float* values = nullptr;
    std::int64_t stride = 0;               ///< from place to place,
    const std::int64_t* places = nullptr;  ///< or, when not null, where each one is
    bool add = false;
    const float* bias = nullptr;
    bool relu = false;
  };
  /// `images`: at the first of the channels to take. `at`: scratch_bytes() of it, on a cache line.
  void run(const float* images, const PanelSource& weight, const Output& output, std::byte* at) const;

 private:
  struct Part;  // columns and depth whose packed weight is in memory
  // Where things are in the memory, in floats.
  struct Memory {
    std::int64_t rows = 0;   // gathered
    std::int64_t left = 0;   // the same, split
    std::int64_t panel = 0;  // of the weight, before it is split
    std::int64_t floats = 0;
  };
  [[nodiscard]] Memory memory() const;
  void pack_part(const Part& part, const PanelSource& weight, float* packed) const;
  void split_part(const Part& part, const PanelSource& weight, float* packed) const;
  void multiply_part(const Part& part, const float* images, const Output& output, float* packed) const;
  void multiply_rows(const Product& product, std::uint16_t* left) const;
  [[nodiscard]] std::int64_t block_floats() const;

  PatchProductShape shape_;
  std::vector<PatchRun> runs_;
  std::vector<ChannelBlock> blocks_;
  bool gathers_ = true;            // false: the image is the matrix already
  std::int64_t part_columns_ = 0;  // a multiple of a panel's
  std::int64_t part_blocks_ = 0;
  std::int64_t row_stride_ = 0;  // of gathered rows
};

/// Channels that are taken together, so that their taps are about as deep as a cache likes.
std::int64_t channels_of_block(std::int64_t channels, std::int64_t taps);

}  // namespace impart::nn

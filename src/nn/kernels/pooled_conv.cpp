#include "nn/kernels/pooled_conv.hpp"

#include <algorithm>
#include <limits>

namespace impart::nn {

namespace {

// Beyond this many taps a filter, oneDNN's convolutions are the faster ones.
constexpr std::int64_t kFewTaps = 32;

// Patches are numbered by 32-bit offsets within an image.
bool offsets_fit(const ConvGeometry& conv) {
  return conv.height * conv.width * conv.channels <= std::numeric_limits<std::int32_t>::max();
}

// Patches are what lies side by side in the image.
bool plain(const ConvGeometry& conv) {
  return conv.window.padding == 0 && conv.window.dilation == 1 && conv.groups == 1;
}

// Offset in the image of the patch of the convolution's value (y, x), in floats.
std::int64_t patch_offset(const ConvGeometry& conv, std::int64_t y, std::int64_t x) {
  return (y * conv.width + x) * conv.window.stride * conv.channels;
}

// sum over images and windows of the gradients that pass.
void sum_winners(const float* grad_y, const std::uint8_t* winners, std::int64_t rows, std::int64_t filters,
                 float* sum) {
  std::fill(sum, sum + filters, 0.0F);
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t f = 0; f < filters; ++f) {
      sum[f] += winners[row * filters + f] == kNoWinner ? 0.0F : grad_y[row * filters + f];
    }
  }
}

}  // namespace

bool WinnerConv::serves(const ConvGeometry& conv, const PoolGeometry& pool) {
  return plain(conv) && conv.window.kernel * conv.channels % 16 == 0 && offsets_fit(conv) &&
         2 * pool.out_height * pool.out_width <= pool.height * pool.width;
}

WinnerConv::WinnerConv(const ConvGeometry& conv, const PoolGeometry& pool, Scratch& scratch)
    : conv_(conv),
      pool_(pool),
      patch_{.filters = conv.filters,
             .rows = conv.window.kernel,
             .row_floats = conv.window.kernel * conv.channels,
             .row_stride = conv.width * conv.channels} {
  const auto& window = pool.window;
  for (std::int64_t oy = 0; oy < pool.out_height; ++oy) {
    for (std::int64_t ox = 0; ox < pool.out_width; ++ox) {
      const std::int64_t y = oy * window.stride - window.padding;
      const std::int64_t x = ox * window.stride - window.padding;
      windows_.push_back(static_cast<std::int32_t>(patch_offset(conv, y, x)));
    }
  }
  // As many as an index byte has values, so that kNoWinner may be looked up as well.
  in_window_.resize(kNoWinner + 1);
  for (std::int64_t k = 0; k < window.kernel * window.kernel; ++k) {
    in_window_[static_cast<std::size_t>(k)] =
        static_cast<std::int32_t>(patch_offset(conv, k / window.kernel, k % window.kernel));
  }
  const auto filters = static_cast<std::size_t>(conv.filters);
  list_.resize(filters * windows_.size());
  counts_.resize(filters);
  weight_ = AlignedBuffer<float>(filters * static_cast<std::size_t>(patch_.rows * patch_.row_floats));
  sum_ = AlignedBuffer<float>(weight_.size());
  scratch.count_table(list_.size() * sizeof(Winner) + 2 * weight_.size() * sizeof(float));
}

void WinnerConv::load(const float* weight) {
  transpose_images(weight, conv_.filters, conv_.channels, conv_.window.kernel * conv_.window.kernel,
                   weight_.data());
}

// Writes each value, and counts those that carry a gradient, so that the loop has no branch to mispredict.
WinnerLists WinnerConv::collect(const float* grad_y, const std::uint8_t* winners) {
  const auto windows = windows_.size();
  const auto filters = counts_.size();
  for (std::size_t f = 0; f < filters; ++f) {
    Winner* list = list_.data() + f * windows;
    std::size_t count = 0;
    for (std::size_t w = 0; w < windows; ++w) {
      const std::uint8_t winner = winners[w * filters + f];
      list[count] = {windows_[w] + in_window_[winner], grad_y[w * filters + f]};
      count += winner != kNoWinner ? 1 : 0;
    }
    counts_[f] = static_cast<std::int32_t>(count);
  }
  return {list_.data(), counts_.data(), static_cast<std::int64_t>(windows)};
}

void WinnerConv::backward(const float* x, const float* grad_y, const std::uint8_t* winners,
                          float* grad_weight, float* grad_bias, float* grad_x) {
  const std::int64_t image = conv_.height * conv_.width * conv_.channels;
  const std::int64_t pooled = pool_.out_height * pool_.out_width * conv_.filters;
  if (grad_x != nullptr) std::fill(grad_x, grad_x + conv_.batch * image, 0.0F);
  std::fill(sum_.span().begin(), sum_.span().end(), 0.0F);
  for (std::int64_t n = 0; n < conv_.batch; ++n) {
    const WinnerLists lists = collect(grad_y + n * pooled, winners + n * pooled);
    if (grad_weight != nullptr) kernels().winner_weights(patch_, lists, x + n * image, sum_.data());
    if (grad_x != nullptr) kernels().winner_data(patch_, lists, weight_.data(), grad_x + n * image);
  }
  if (grad_weight != nullptr) {
    transpose_images(sum_.data(), conv_.filters, conv_.window.kernel * conv_.window.kernel, conv_.channels,
                     grad_weight);
  }
  if (grad_bias != nullptr) {
    sum_winners(grad_y, winners, conv_.batch * pool_.out_height * pool_.out_width, conv_.filters, grad_bias);
  }
}

bool FewTapsConv::serves(const ConvGeometry& conv, const PoolGeometry& pool) {
  return plain(conv) && conv.taps() <= kFewTaps && offsets_fit(conv) && pool.window.kernel == 2 &&
         pool.window.padding == 0;
}

FewTapsConv::FewTapsConv(const ConvGeometry& conv, const PoolGeometry& pool, bool relu, Scratch& scratch)
    : conv_(conv), pool_(pool) {
  for (std::int64_t row = 0; row < conv.window.kernel; ++row) {
    for (std::int64_t k = 0; k < conv.window.kernel * conv.channels; ++k) {
      tap_offsets_.push_back(static_cast<std::int32_t>(row * conv.width * conv.channels + k));
    }
  }
  taps_.filters = conv.filters;
  taps_.taps = static_cast<std::int64_t>(tap_offsets_.size());
  taps_.tap_offsets = tap_offsets_.data();
  taps_.out_height = pool.out_height;
  taps_.out_width = pool.out_width;
  for (std::int64_t k = 0; k < 4; ++k) taps_.window_offsets[k] = patch_offset(conv, k / 2, k % 2);
  taps_.x_step = patch_offset(conv, 0, pool.window.stride);
  taps_.y_step = patch_offset(conv, pool.window.stride, 0);
  taps_.relu = relu;
  weight_ = AlignedBuffer<float>(static_cast<std::size_t>(taps_.taps * conv.filters));
  sum_ = AlignedBuffer<float>(weight_.size());
  scratch.count_table(2 * weight_.size() * sizeof(float));
}

void FewTapsConv::load(const float* weight, const float* bias) {
  const std::int64_t area = conv_.window.kernel * conv_.window.kernel;
  for (std::int64_t f = 0; f < conv_.filters; ++f) {
    for (std::int64_t c = 0; c < conv_.channels; ++c) {
      for (std::int64_t k = 0; k < area; ++k) {
        weight_.data()[(k * conv_.channels + c) * conv_.filters + f] =
            weight[(f * conv_.channels + c) * area + k];
      }
    }
  }
  bias_ = bias;
}

void FewTapsConv::forward(const float* x, float* y, std::uint8_t* winners) {
  const std::int64_t image = conv_.height * conv_.width * conv_.channels;
  const std::int64_t pooled = pool_.out_height * pool_.out_width * conv_.filters;
  for (std::int64_t n = 0; n < conv_.batch; ++n) {
    kernels().few_taps_forward(taps_, x + n * image, weight_.data(), bias_, y + n * pooled,
                               winners + n * pooled);
  }
}

void FewTapsConv::backward(const float* x, const float* grad_y, const std::uint8_t* winners,
                           float* grad_weight, float* grad_bias) {
  const std::int64_t image = conv_.height * conv_.width * conv_.channels;
  const std::int64_t pooled = pool_.out_height * pool_.out_width * conv_.filters;
  std::fill(sum_.span().begin(), sum_.span().end(), 0.0F);
  for (std::int64_t n = 0; n < conv_.batch; ++n) {
    kernels().few_taps_weights(taps_, x + n * image, grad_y + n * pooled, winners + n * pooled, sum_.data());
  }
  const std::int64_t area = conv_.window.kernel * conv_.window.kernel;
  for (std::int64_t f = 0; f < conv_.filters; ++f) {
    for (std::int64_t c = 0; c < conv_.channels; ++c) {
      for (std::int64_t k = 0; k < area; ++k) {
        grad_weight[(f * conv_.channels + c) * area + k] =
            sum_.data()[(k * conv_.channels + c) * conv_.filters + f];
      }
    }
  }
  if (grad_bias != nullptr) {
    sum_winners(grad_y, winners, conv_.batch * pool_.out_height * pool_.out_width, conv_.filters, grad_bias);
  }
}

}  // namespace impart::nn

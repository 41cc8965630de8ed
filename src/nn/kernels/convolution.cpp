#include "nn/kernels/convolution.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/nn/shard_tree.hpp"
#include "nn/kernels/conv_primitives.hpp"
#include "nn/kernels/depthwise.hpp"
#include "nn/kernels/gemm_convolution.hpp"
#include "nn/kernels/isa.hpp"
#include "nn/kernels/winograd.hpp"
#include "nn/kernels/wisdom.hpp"

namespace impart::nn {

namespace {

// Depthwise convolutions leave the others next to nothing to vectorise; Winograd's do a half to a quarter of
// the multiplications; and the last one in the table takes what is left.
bool always_wins(const ConvGeometry& /*g*/, ConvDirection /*direction*/) { return true; }

// Ours and oneDNN's kernels run at much the same speed, but for this:
// - a gathered patch of few channels is copied in small pieces, for little use of each;
// - without padding, taps of the gradient of the data that lie outside the image are multiplied as zeros;
// - oneDNN's kernels for AVX2 reach 85% of the peak with a whole image, ours 70%;
// - oneDNN's gradients of weights fall to half the speed and less on small images, where it writes the
//   weights for each shard and ours write a tile once; on large images its are the faster ones.
bool gemm_wins(const ConvGeometry& g, ConvDirection direction) {
  constexpr std::int64_t kFewChannels = 16;
  const bool strided = g.window.kernel > 1 && g.window.stride > 1;
  const std::int64_t pixels = g.out_height * g.out_width;
  if (pixels == 1) return true;
  if (g.channels / g.groups < kFewChannels || g.filters / g.groups < kFewChannels) return false;
  if (direction == ConvDirection::kWeights) return pixels <= 64 || strided;
  const std::int64_t stride = g.window.stride;
  if (direction == ConvDirection::kData && 5 * pixels * stride * stride < 4 * g.height * g.width)
    return false;
  return have_avx512();
}

// Splitting what AMX's tiles multiply takes as long as some 60 of their products of each value, so that few
// channels or filters leave nothing to win. One pixel is left to "gemm", as dense layers are.
bool amx_wins(const ConvGeometry& g, ConvDirection /*direction*/) {
  constexpr std::int64_t kFewChannels = 64;
  return std::min(g.channels, g.filters) / g.groups >= kFewChannels && g.out_height * g.out_width > 1;
}

constexpr std::array<ConvCandidate, 6> kCandidates{{
    {"depthwise", depthwise_serves, always_wins, make_depthwise_forward, make_depthwise_data,
     make_depthwise_weights},
    {"winograd4", winograd4_serves, winograd4_wins, make_winograd4_forward, make_winograd4_data,
     make_winograd4_weights},
    {"winograd2", winograd2_serves, winograd2_wins, make_winograd2_forward, make_winograd2_data,
     make_winograd2_weights},
    {"amx", amx_serves, amx_wins, make_amx_forward, make_amx_backward_data, make_amx_backward_weights},
    {"gemm", gemm_serves, gemm_wins, make_gemm_forward, make_gemm_backward_data, make_gemm_backward_weights},
    {"onednn", onednn_serves, always_wins, make_onednn_forward, make_onednn_backward_data,
     make_onednn_backward_weights},
}};

}  // namespace

std::span<const ConvCandidate> conv_candidates() { return kCandidates; }

const ConvCandidate& choose_convolution(const ConvGeometry& g, ConvDirection direction,
                                        std::string_view name) {
  ChoiceRecorder::note(g, direction);
  if (name.empty()) name = wisdom_choice(g, direction);
  std::vector<std::string_view> serving;
  for (const auto& candidate : kCandidates) {
    if (!candidate.serves(g, direction)) continue;
    if (name.empty() ? candidate.wins(g, direction) : candidate.name == name) return candidate;
    serving.push_back(candidate.name);
  }
  throw Error(fmt::format("no convolution kernel \"{}\" for this shape", name), ErrorKind::kUsage)
      .expected(fmt::format("one of {}", fmt::join(serving, ", ")));
}

void sum_bias_gradient(const ConvGeometry& g, const float* grad_y, float* partial, float* grad_bias) {
  ShardTree tree(g.filters, grad_bias, partial);
  for (std::int64_t shard = 0; shard < g.shards; ++shard) {
    float* sum = tree.next();
    std::fill(sum, sum + g.filters, 0.0F);
    for (const float* end = grad_y + g.shard_output(); grad_y != end; grad_y += g.filters) {
      for (std::int64_t f = 0; f < g.filters; ++f) sum[f] += grad_y[f];
    }
    tree.put();
  }
}

}  // namespace impart::nn

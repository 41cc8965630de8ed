#include "nn/convolution.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <vector>

#include "impart/core/error.hpp"
#include "nn/conv_primitives.hpp"
#include "nn/depthwise.hpp"
#include "nn/gemm_convolution.hpp"
#include "nn/winograd.hpp"

namespace impart::nn {

namespace {

constexpr std::array<ConvCandidate, 5> kCandidates{{
    {"depthwise", depthwise_serves, make_depthwise_forward, make_depthwise_data, make_depthwise_weights},
    {"winograd4", winograd4_serves, make_winograd4_forward, make_winograd4_data, nullptr},
    {"winograd2", winograd2_serves, make_winograd2_forward, make_winograd2_data, nullptr},
    {"onednn", onednn_serves, make_onednn_forward, make_onednn_backward_data, make_onednn_backward_weights},
    {"gemm", gemm_serves, make_gemm_forward, make_gemm_backward_data, make_gemm_backward_weights},
}};

}  // namespace

std::span<const ConvCandidate> conv_candidates() { return kCandidates; }

const ConvCandidate& choose_convolution(const ConvGeometry& g, ConvDirection direction,
                                        std::string_view name) {
  std::vector<std::string_view> serving;
  for (const auto& candidate : kCandidates) {
    if (!candidate.serves(g, direction)) continue;
    if (name.empty() || candidate.name == name) return candidate;
    serving.push_back(candidate.name);
  }
  throw Error(fmt::format("no convolution kernel \"{}\" for this shape", name), ErrorKind::kUsage)
      .expected(fmt::format("one of {}", fmt::join(serving, ", ")));
}

}  // namespace impart::nn

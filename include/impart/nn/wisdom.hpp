// Wisdom: kernels chosen by measurements of one machine (FFTW's word), instead of by the fixed rule.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "impart/nn/spec.hpp"

namespace impart::nn {

/// Measures every kernel that can compute a convolution of `spec`, in each direction, with `batch` samples in
/// `shards` shards and one thread. Returns the fastest ones as JSON: {"format": "impart-wisdom", "isa",
/// "convolutions": {SHAPE: {"forward", "data", "weights": NAME}}, "digest"}. Takes some tenths of a second
/// for each different convolution.
std::string tune(const ModelSpec& spec, std::int64_t batch, std::int64_t shards);

/// More than any wisdom has.
inline constexpr std::uintmax_t kMaxWisdomBytes = 1 << 26;

/// From now on, networks made in this process take what `wisdom` says, and the rule's choice for shapes that
/// it does not know. Empty: the rule alone, as in the beginning. Not to be called while networks are being
/// made. Throws Error (usage) when it is not what tune writes, was changed, is of another instruction set, or
/// names a kernel that does not exist or does not fit.
void use_wisdom(std::string_view wisdom);

/// What chose the kernels, for lineage: "the fixed rule", or "wisdom " and the digest of what use_wisdom was
/// given.
std::string kernel_choice();

}  // namespace impart::nn

// Transfer: a new model that starts with what another has learnt.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "impart/core/state_dict.hpp"
#include "impart/nn/spec.hpp"

namespace impart::share {

enum class Head : std::uint8_t {
  kAuto,     ///< replaced when its shape differs, else kept
  kReplace,  ///< always made anew
  kKeep,     ///< never; it must fit
};

struct TransferResult {
  StateDict state;
  std::vector<std::string> loaded;    ///< tensors taken from the source
  std::vector<std::string> replaced;  ///< tensors made anew
};

/// The state of `target`, with every tensor taken from `source` but those of a replaced head. Throws Error
/// that lists the tensors that are missing or of another shape outside of the head.
TransferResult transfer(const StateDict& source, const nn::ModelSpec& target, Head head, std::uint64_t seed);

}  // namespace impart::share

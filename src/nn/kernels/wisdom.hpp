// How wisdom and the choice of convolutions know each other.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "nn/kernels/convolution.hpp"

namespace impart::nn {

/// The name of the candidate that the wisdom in use has for this shape and direction; empty when it has none.
std::string_view wisdom_choice(const ConvGeometry& g, ConvDirection direction);

/// While it lives, notes every choice of a convolution that this thread makes.
class ChoiceRecorder {
 public:
  using Choices = std::vector<std::pair<ConvGeometry, ConvDirection>>;

  explicit ChoiceRecorder(Choices& choices);
  ChoiceRecorder(const ChoiceRecorder&) = delete;
  ChoiceRecorder& operator=(const ChoiceRecorder&) = delete;
  ~ChoiceRecorder();

  static void note(const ConvGeometry& g, ConvDirection direction);
};

}  // namespace impart::nn

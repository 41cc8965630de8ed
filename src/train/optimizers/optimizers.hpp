// The factories behind optimizers(), and what the rules share. A rule's loop is one pass over memory, which
// decides its speed.
#pragma once

#include <array>
#include <cstddef>

#include "impart/core/settings.hpp"
#include "impart/train/optimizer.hpp"

namespace impart::train {

OptimizerRulePtr make_sgd(Settings& settings);
OptimizerRulePtr make_adam(Settings& settings);
OptimizerRulePtr make_adamw(Settings& settings);
OptimizerRulePtr make_rmsprop(Settings& settings);
OptimizerRulePtr make_lars(Settings& settings);
OptimizerRulePtr make_lamb(Settings& settings);

/// What all rules have. Reads it.
struct CommonSettings {
  CommonSettings(Settings& settings, double rate, double decay) : learning_rate(rate), weight_decay(decay) {
    settings.read("learning_rate", learning_rate, at_least(0), "of one update, before schedule and groups");
    settings.read("weight_decay", weight_decay, at_least(0),
                  "what is taken from each weight beside its gradient, times the weight");
  }
  double learning_rate;
  double weight_decay;
};

inline double read_momentum(Settings& settings, double momentum) {
  settings.read("momentum", momentum, below(0, 1), "the part of the last update that goes into the next");
  return momentum;
}
inline double read_epsilon(Settings& settings, double epsilon) {
  settings.read("epsilon", epsilon, above(0), "added to what is divided by");
  return epsilon;
}

/// `n` values of a tensor (the rules take them apart from each other), and of what an optimizer keeps beside
/// them.
struct Values {
  std::size_t n = 0;
  float* w = nullptr;
  const float* g = nullptr;
  std::array<float*, 3> slots = {};
};

inline Values values_of(const OptimizerStep& step, const TrainedParameters::Piece& piece) {
  Values result{
      piece.size, step.state.arena().data() + piece.begin, step.gradient.arena().data() + piece.begin, {}};
  for (std::size_t i = 0; i < step.slots.size(); ++i)
    result.slots[i] = step.slots[i].second.arena().data() + piece.begin;
  return result;
}

/// The rate of a piece.
inline double rate_of(const OptimizerStep& step, const TrainedParameters::Piece& piece) {
  return step.rate * step.scales[piece.parameter];
}

/// Rules with a rate for each tensor give the plain one, and no decay, to tensors of one extent (biases,
/// scales), as in their authors' code.
inline bool is_adapted(const OptimizerStep& step, const TrainedParameters::Piece& piece) {
  return step.parameters.entries()[piece.parameter].shape.rank() > 1;
}

}  // namespace impart::train

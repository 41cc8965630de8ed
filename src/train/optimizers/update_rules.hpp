// What optimizers do to the values of a tensor: one pass over memory each, which decides their speed.
#pragma once

#include <cstddef>

namespace impart::train {

/// `n` values of a tensor (the rules take them apart from each other), and of what an optimizer keeps beside
/// them.
struct Values {
  std::size_t n = 0;
  float* w = nullptr;
  const float* g = nullptr;
  float* slots[3] = {};
};

/// As torch.optim.SGD; slots: velocity, or none without momentum.
struct SgdRule {
  float rate, decay, momentum;
  bool nesterov;
  void operator()(const Values& values) const;
};

/// Kingma and Ba 2015, algorithm 1, as torch.optim.Adam; slots: mean, square. `shrink` is the decoupled decay
/// (Loshchilov and Hutter 2019), 1 for none; `rate` and `root` hold the bias corrections.
struct AdamRule {
  float rate, decay, shrink, beta1, beta2, rest1, rest2, root, epsilon;
  void operator()(const Values& values) const;
};

/// Tieleman and Hinton 2012, centred: Graves 2013; as torch.optim.RMSprop; slots: square, then mean (if
/// centred), then velocity (if there is momentum).
struct RmspropRule {
  float rate, decay, alpha, rest, momentum, epsilon;
  bool centered;
  void operator()(const Values& values) const;
};

/// You, Gitman and Ginsburg 2017, algorithm 1, with `rate` = global times local rate; slots: velocity.
struct LarsRule {
  float rate, decay, momentum;
  void operator()(const Values& values) const;
};

/// You et al. 2020, algorithm 2, in two passes, for the step's length is that of a whole tensor; slots: mean,
/// square.
struct LambRule {
  float decay, beta1, beta2, rest1, rest2, correction1, root, epsilon;
  /// Brings the slots up to date, and returns the square of the length of this part of the step.
  double prepare(const Values& values) const;
  void apply(const Values& values, float rate) const;
};

}  // namespace impart::train

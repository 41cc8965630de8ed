#include "train/optimizers/update_rules.hpp"

#include <array>
#include <cmath>

namespace impart::train {

void SgdRule::operator()(const Values& values) const {
  const auto [lr, wd, mu, ahead, along] =
      std::array{rate, decay, momentum, nesterov ? 1.0F : 0.0F, nesterov ? momentum : 1.0F};
  float* __restrict w = values.w;
  const float* __restrict g = values.g;
  float* __restrict velocity = values.slots[0];
  if (velocity == nullptr) {
    for (std::size_t i = 0; i < values.n; ++i) w[i] -= lr * (g[i] + wd * w[i]);
    return;
  }
  for (std::size_t i = 0; i < values.n; ++i) {
    const float d = g[i] + wd * w[i];
    const float v = mu * velocity[i] + d;
    velocity[i] = v;
    w[i] -= lr * (ahead * d + along * v);
  }
}

void AdamRule::operator()(const Values& values) const {
  const AdamRule r = *this;
  float* __restrict w = values.w;
  const float* __restrict g = values.g;
  float* __restrict mean = values.slots[0];
  float* __restrict square = values.slots[1];
  for (std::size_t i = 0; i < values.n; ++i) {
    const float d = g[i] + r.decay * w[i];
    const float m = r.beta1 * mean[i] + r.rest1 * d;
    const float s = r.beta2 * square[i] + r.rest2 * d * d;
    mean[i] = m;
    square[i] = s;
    w[i] = r.shrink * w[i] - r.rate * m / (std::sqrt(s) * r.root + r.epsilon);
  }
}

namespace {

template <bool kCentered, bool kMomentum>
void rmsprop(const RmspropRule r, const Values& values) {
  float* __restrict w = values.w;
  const float* __restrict g = values.g;
  float* __restrict square = values.slots[0];
  float* __restrict mean = values.slots[1];
  float* __restrict velocity = values.slots[kCentered ? 2 : 1];
  for (std::size_t i = 0; i < values.n; ++i) {
    const float d = g[i] + r.decay * w[i];
    float variance = r.alpha * square[i] + r.rest * d * d;
    square[i] = variance;
    if constexpr (kCentered) {
      const float m = r.alpha * mean[i] + r.rest * d;
      mean[i] = m;
      variance -= m * m;
      variance = variance < 0 ? 0 : variance;  // by rounding
    }
    float move = d / (std::sqrt(variance) + r.epsilon);
    if constexpr (kMomentum) {
      move += r.momentum * velocity[i];
      velocity[i] = move;
    }
    w[i] -= r.rate * move;
  }
}

}  // namespace

void RmspropRule::operator()(const Values& values) const {
  if (centered) {
    momentum > 0 ? rmsprop<true, true>(*this, values) : rmsprop<true, false>(*this, values);
  } else {
    momentum > 0 ? rmsprop<false, true>(*this, values) : rmsprop<false, false>(*this, values);
  }
}

void LarsRule::operator()(const Values& values) const {
  const auto [lr, wd, mu] = std::array{rate, decay, momentum};
  float* __restrict w = values.w;
  const float* __restrict g = values.g;
  float* __restrict velocity = values.slots[0];
  for (std::size_t i = 0; i < values.n; ++i) {
    const float v = mu * velocity[i] + lr * (g[i] + wd * w[i]);
    velocity[i] = v;
    w[i] -= v;
  }
}

namespace {

float lamb_step(const LambRule& r, float w, float m, float s) {
  return m * r.correction1 / (std::sqrt(s) * r.root + r.epsilon) + r.decay * w;
}

}  // namespace

double LambRule::prepare(const Values& values) const {
  const LambRule r = *this;
  const float* __restrict w = values.w;
  const float* __restrict g = values.g;
  float* __restrict mean = values.slots[0];
  float* __restrict square = values.slots[1];
  // Partial sums, so that the order of summation is fixed and the loop has registers in flight.
  constexpr std::size_t kLanes = 16;
  std::array<double, kLanes> sums{};
  for (std::size_t from = 0; from < values.n; from += kLanes) {
    const std::size_t count = values.n - from < kLanes ? values.n - from : kLanes;
    for (std::size_t k = 0; k < count; ++k) {
      const std::size_t i = from + k;
      const float d = g[i];
      const float m = r.beta1 * mean[i] + r.rest1 * d;
      const float s = r.beta2 * square[i] + r.rest2 * d * d;
      mean[i] = m;
      square[i] = s;
      const auto step = static_cast<double>(lamb_step(r, w[i], m, s));
      sums[k] += step * step;
    }
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

void LambRule::apply(const Values& values, float rate) const {
  const LambRule r = *this;
  float* __restrict w = values.w;
  const float* __restrict mean = values.slots[0];
  const float* __restrict square = values.slots[1];
  for (std::size_t i = 0; i < values.n; ++i) w[i] -= rate * lamb_step(r, w[i], mean[i], square[i]);
}

}  // namespace impart::train

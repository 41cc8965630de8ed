#include "impart/train/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "impart/core/error.hpp"

namespace impart::train {

double schedule_factor(const ScheduleOptions& options, std::int64_t step, std::int64_t steps_per_epoch,
                       std::int64_t total_steps) {
  const double now = static_cast<double>(step);
  const double per_epoch = static_cast<double>(std::max<std::int64_t>(steps_per_epoch, 1));
  const double warmup = std::floor(options.warmup_epochs * per_epoch);
  // The first step already moves, the last step of the warm-up has the full rate.
  if (now < warmup) return (now + 1) / warmup;
  switch (options.kind) {
    case ScheduleKind::kConstant:
      return 1.0;
    case ScheduleKind::kStep:
      return std::pow(options.gamma, std::floor(now / per_epoch / options.step_epochs));
    case ScheduleKind::kCosine: {
      // Loshchilov and Hutter 2017, eq. 5, without restarts.
      const double length = std::max(1.0, static_cast<double>(total_steps) - warmup);
      const double done = std::min(1.0, (now - warmup) / length);
      return options.final_factor +
             (1 - options.final_factor) * 0.5 * (1 + std::cos(std::numbers::pi * done));
    }
  }
  return 1.0;
}

bool matches(std::string_view pattern, std::string_view name) {
  // Greedy, with one place to come back to: the last star.
  std::size_t p = 0;
  std::size_t n = 0;
  std::size_t star = std::string_view::npos;
  std::size_t resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

ParameterGroup group_of(std::span<const ParameterGroup> groups, std::string_view parameter) {
  ParameterGroup result;
  for (const auto& group : groups) {
    if (matches(group.pattern, parameter)) result = group;
  }
  return result;
}

namespace {

std::string_view name_of(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kSgd:
      return "sgd";
    case OptimizerKind::kAdam:
      return "adam";
    case OptimizerKind::kAdamW:
      return "adamw";
  }
  return "";
}

/// As torch.optim.SGD; `velocity` is empty without momentum.
void sgd(const OptimizerOptions& o, double rate, std::span<float> w, std::span<const float> g,
         std::span<float> velocity) {
  const auto lr = static_cast<float>(rate);
  const auto decay = static_cast<float>(o.weight_decay);
  const auto momentum = static_cast<float>(o.momentum);
  if (velocity.empty()) {
    for (std::size_t i = 0; i < w.size(); ++i) w[i] -= lr * (g[i] + decay * w[i]);
    return;
  }
  const float ahead = o.nesterov ? 1.0F : 0.0F;
  const float along = o.nesterov ? momentum : 1.0F;
  for (std::size_t i = 0; i < w.size(); ++i) {
    const float d = g[i] + decay * w[i];
    velocity[i] = momentum * velocity[i] + d;
    w[i] -= lr * (ahead * d + along * velocity[i]);
  }
}

/// Kingma and Ba 2015, algorithm 1, as torch.optim.Adam and AdamW; `t` counts from 1.
void adam(const OptimizerOptions& o, double rate, std::int64_t t, std::span<float> w,
          std::span<const float> g, std::span<float> mean, std::span<float> square) {
  const bool decoupled = o.kind == OptimizerKind::kAdamW;
  const auto coupled_decay = static_cast<float>(decoupled ? 0.0 : o.weight_decay);
  const auto shrink = static_cast<float>(decoupled ? 1.0 - rate * o.weight_decay : 1.0);
  const auto b1 = static_cast<float>(o.beta1);
  const auto b2 = static_cast<float>(o.beta2);
  const auto c1 = static_cast<float>(1.0 - o.beta1);
  const auto c2 = static_cast<float>(1.0 - o.beta2);
  const auto correction = std::sqrt(1.0 - std::pow(o.beta2, static_cast<double>(t)));
  const auto lr = static_cast<float>(rate / (1.0 - std::pow(o.beta1, static_cast<double>(t))));
  const auto root = static_cast<float>(1.0 / correction);
  const auto epsilon = static_cast<float>(o.epsilon);
  for (std::size_t i = 0; i < w.size(); ++i) {
    const float d = g[i] + coupled_decay * w[i];
    mean[i] = b1 * mean[i] + c1 * d;
    square[i] = b2 * square[i] + c2 * d * d;
    w[i] = shrink * w[i] - lr * mean[i] / (std::sqrt(square[i]) * root + epsilon);
  }
}

}  // namespace

Optimizer::Optimizer(const OptimizerOptions& options, StateLayoutPtr layout,
                     std::span<const ParameterGroup> groups)
    : options_(options) {
  if (options_.nesterov && !(options_.momentum > 0)) {
    throw Error("nesterov needs momentum", ErrorKind::kUsage)
        .at("optimizer")
        .expected("momentum > 0")
        .got("0");
  }
  for (const auto& entry : layout->entries()) {
    if (entry.kind != StateKind::kParameter) continue;
    auto group = group_of(groups, entry.name);
    if (!group.frozen) parameters_.emplace_back(entry, std::move(group));
  }
  if (options_.kind == OptimizerKind::kSgd) {
    if (options_.momentum > 0) slots_.emplace_back("momentum", StateDict(layout));
  } else {
    slots_.emplace_back("exp_avg", StateDict(layout));
    slots_.emplace_back("exp_avg_sq", StateDict(layout));
  }
}

void Optimizer::update(StateDict& state, const StateDict& gradients, double factor, std::int64_t step) {
  for (const auto& [entry, group] : parameters_) {
    const double rate = options_.learning_rate * factor * group.learning_rate_scale;
    const auto w = state.values(entry);
    const auto g = gradients.values(entry);
    if (options_.kind == OptimizerKind::kSgd) {
      sgd(options_, rate, w, g, slots_.empty() ? std::span<float>() : slots_[0].second.values(entry));
    } else {
      adam(options_, rate, step + 1, w, g, slots_[0].second.values(entry), slots_[1].second.values(entry));
    }
  }
}

std::string_view Optimizer::kind() const noexcept { return name_of(options_.kind); }

std::vector<std::pair<std::string, StateDict>> Optimizer::snapshot() const {
  std::vector<std::pair<std::string, StateDict>> copy;
  for (const auto& [name, slot] : slots_) copy.emplace_back(name, slot.clone());
  return copy;
}

void Optimizer::restore(std::string_view kind, std::span<const std::pair<std::string, StateDict>> slots) {
  const bool fits =
      kind == this->kind() && std::equal(slots.begin(), slots.end(), slots_.begin(), slots_.end(),
                                         [](const auto& a, const auto& b) { return a.first == b.first; });
  if (!fits) {
    throw Error("the saved optimizer state does not fit")
        .expected(std::string(this->kind()) + " with " + std::to_string(slots_.size()) + " slots")
        .got(std::string(kind) + " with " + std::to_string(slots.size()));
  }
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    // By name: a checkpoint may hold fewer tensors than the layout (it has no slots for buffers).
    for (const auto& entry : slots[i].second.layout().entries()) {
      const auto from = slots[i].second.values(entry);
      const auto to = slots_[i].second.values(entry.name);
      if (from.size() != to.size())
        throw Error("the saved optimizer state of '" + entry.name + "' has another size");
      std::copy(from.begin(), from.end(), to.begin());
    }
  }
}

}  // namespace impart::train

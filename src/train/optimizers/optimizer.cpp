#include "impart/train/optimizer.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "impart/core/error.hpp"
#include "train/optimizers/update_rules.hpp"
#include "train/vector_sums.hpp"

namespace impart::train {

namespace {

constexpr std::array<std::string_view, 6> kNames{"sgd", "adam", "adamw", "rmsprop", "lars", "lamb"};

std::vector<std::string> slot_names(const OptimizerOptions& options) {
  const bool momentum = options.momentum > 0;
  switch (options.kind) {
    case OptimizerKind::kSgd:
      return momentum ? std::vector<std::string>{"momentum"} : std::vector<std::string>{};
    case OptimizerKind::kLars:
      return {"momentum"};
    case OptimizerKind::kRmsprop: {
      std::vector<std::string> names{"square_avg"};
      if (options.centered) names.emplace_back("grad_avg");
      if (momentum) names.emplace_back("momentum");
      return names;
    }
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
    case OptimizerKind::kLamb:
      return {"exp_avg", "exp_avg_sq"};
  }
  return {};
}

/// How many times a step a tensor's rate is: its length by that of its gradient. 1 where that says nothing.
double trust_ratio(double weight, double step) { return weight > 0 && step > 0 ? weight / step : 1; }

}  // namespace

std::span<const std::string_view> optimizer_names() { return kNames; }

OptimizerOptions default_options(OptimizerKind kind) {
  OptimizerOptions options{.kind = kind};
  if (kind == OptimizerKind::kAdam || kind == OptimizerKind::kAdamW || kind == OptimizerKind::kLamb)
    options.learning_rate = 0.001;
  if (kind == OptimizerKind::kAdamW || kind == OptimizerKind::kLamb) options.weight_decay = 0.01;
  if (kind == OptimizerKind::kLamb) options.epsilon = 1e-6;
  if (kind == OptimizerKind::kLars) options.momentum = 0.9;
  return options;
}

std::size_t optimizer_slots(const OptimizerOptions& options) { return slot_names(options).size(); }

/// What one update works with.
struct Optimizer::Update {
  StateDict& state;
  const StateDict& gradients;
  std::vector<std::pair<std::string, StateDict>>& slots;
  double rate;  // times the group's scale
  std::int64_t step;

  [[nodiscard]] Values values(const Piece& piece) const {
    Values result{piece.size, state.arena().data() + piece.begin, gradients.arena().data() + piece.begin, {}};
    for (std::size_t i = 0; i < slots.size(); ++i)
      result.slots[i] = slots[i].second.arena().data() + piece.begin;
    return result;
  }
};

Optimizer::Optimizer(const OptimizerOptions& options, StateLayoutPtr layout,
                     std::span<const ParameterGroup> groups, WorkerTeam* team, SumParts sum_parts)
    : options_(options),
      parameters_(
          layout, [&](const std::string& name) { return !group_of(groups, name).frozen; }, team,
          std::move(sum_parts)) {
  if (options_.nesterov && !(options_.momentum > 0)) {
    throw Error("nesterov needs momentum", ErrorKind::kUsage)
        .at("optimizer")
        .expected("momentum > 0")
        .got("0");
  }
  for (const auto& entry : parameters_.entries())
    scales_.push_back(group_of(groups, entry.name).learning_rate_scale);
  for (auto& name : slot_names(options_)) slots_.emplace_back(std::move(name), StateDict(layout));
}

void Optimizer::update(StateDict& state, const StateDict& gradients, double factor, std::int64_t step) {
  const auto& o = options_;
  const Update update{state, gradients, slots_, o.learning_rate * factor, step};
  const auto apply = [&](const auto& rule_for) {
    parameters_.for_pieces(
        [&](const Piece& piece) { rule_for(update.rate * scales_[piece.parameter])(update.values(piece)); });
  };
  const auto single = [](double value) { return static_cast<float>(value); };
  const auto t = static_cast<double>(step + 1);
  switch (o.kind) {
    case OptimizerKind::kSgd:
      return apply([&](double rate) {
        return SgdRule{single(rate), single(o.weight_decay), single(o.momentum), o.nesterov};
      });
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW: {
      const bool decoupled = o.kind == OptimizerKind::kAdamW;
      const double correction = 1 - std::pow(o.beta1, t);
      const double root = 1 / std::sqrt(1 - std::pow(o.beta2, t));
      return apply([&](double rate) {
        return AdamRule{single(rate / correction),
                        single(decoupled ? 0 : o.weight_decay),
                        single(decoupled ? 1 - rate * o.weight_decay : 1),
                        single(o.beta1),
                        single(o.beta2),
                        single(1 - o.beta1),
                        single(1 - o.beta2),
                        single(root),
                        single(o.epsilon)};
      });
    }
    case OptimizerKind::kRmsprop:
      return apply([&](double rate) {
        return RmspropRule{single(rate),       single(o.weight_decay), single(o.alpha), single(1 - o.alpha),
                           single(o.momentum), single(o.epsilon),      o.centered};
      });
    case OptimizerKind::kLars:
      return update_lars(update);
    case OptimizerKind::kLamb:
      return update_lamb(update);
  }
}

void Optimizer::update_lars(const Update& update) {
  const auto weights = parameters_.sums(
      [&](const Piece& piece) { return square_sum(update.state.arena().subspan(piece.begin, piece.size)); });
  const auto steps = parameters_.sums([&](const Piece& piece) {
    return square_sum(update.gradients.arena().subspan(piece.begin, piece.size));
  });
  parameters_.for_pieces([&](const Piece& piece) {
    double rate = update.rate * scales_[piece.parameter];
    double decay = 0;
    if (parameters_.entries()[piece.parameter].shape.rank() > 1) {
      decay = options_.weight_decay;
      const double length = std::sqrt(weights[piece.parameter]);
      const double step = std::sqrt(steps[piece.parameter]);
      if (length > 0 && step > 0) rate *= options_.trust * length / (step + decay * length);
    }
    const LarsRule rule{static_cast<float>(rate), static_cast<float>(decay),
                        static_cast<float>(options_.momentum)};
    rule(update.values(piece));
  });
}

void Optimizer::update_lamb(const Update& update) {
  const auto& o = options_;
  const auto t = static_cast<double>(update.step + 1);
  const auto rule_for = [&](const Piece& piece) {
    const bool adapted = parameters_.entries()[piece.parameter].shape.rank() > 1;
    return LambRule{static_cast<float>(adapted ? o.weight_decay : 0),
                    static_cast<float>(o.beta1),
                    static_cast<float>(o.beta2),
                    static_cast<float>(1 - o.beta1),
                    static_cast<float>(1 - o.beta2),
                    static_cast<float>(1 / (1 - std::pow(o.beta1, t))),
                    static_cast<float>(1 / std::sqrt(1 - std::pow(o.beta2, t))),
                    static_cast<float>(o.epsilon)};
  };
  const auto weights = parameters_.sums(
      [&](const Piece& piece) { return square_sum(update.state.arena().subspan(piece.begin, piece.size)); });
  const auto steps =
      parameters_.sums([&](const Piece& piece) { return rule_for(piece).prepare(update.values(piece)); });
  parameters_.for_pieces([&](const Piece& piece) {
    const auto parameter = piece.parameter;
    double rate = update.rate * scales_[parameter];
    if (parameters_.entries()[parameter].shape.rank() > 1)
      rate *= trust_ratio(std::sqrt(weights[parameter]), std::sqrt(steps[parameter]));
    rule_for(piece).apply(update.values(piece), static_cast<float>(rate));
  });
}

std::string_view Optimizer::kind() const noexcept { return kNames[static_cast<std::size_t>(options_.kind)]; }

void Optimizer::restore(std::string_view kind, std::span<const std::pair<std::string, StateDict>> slots) {
  const bool fits =
      kind == this->kind() && std::equal(slots.begin(), slots.end(), slots_.begin(), slots_.end(),
                                         [](const auto& a, const auto& b) { return a.first == b.first; });
  if (!fits) {
    throw Error("the saved optimizer state does not fit")
        .expected(std::string(this->kind()) + " with " + std::to_string(slots_.size()) + " slots")
        .got(std::string(kind) + " with " + std::to_string(slots.size()));
  }
  for (std::size_t i = 0; i < slots_.size(); ++i) copy_by_name(slots[i].second, slots_[i].second);
}

}  // namespace impart::train

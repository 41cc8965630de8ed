#include "impart/train/optimizer.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "impart/core/error.hpp"
#include "train/optimizers/update_rules.hpp"
#include "train/vector_sums.hpp"

namespace impart::train {

namespace {

constexpr std::array<std::string_view, 6> kNames{"sgd", "adam", "adamw", "rmsprop", "lars", "lamb"};

// Small enough that the threads end together, large enough that starting one costs nothing.
constexpr std::size_t kPieceFloats = 1 << 15;

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
  GradientClip clip;

  [[nodiscard]] Values values(const Piece& piece) const {
    Values result{piece.size, state.arena().data() + piece.begin, gradients.arena().data() + piece.begin, {}};
    for (std::size_t i = 0; i < slots.size(); ++i)
      result.slots[i] = slots[i].second.arena().data() + piece.begin;
    return result;
  }
};

Optimizer::Optimizer(const OptimizerOptions& options, StateLayoutPtr layout,
                     std::span<const ParameterGroup> groups, WorkerTeam* team, SumParts sum_parts)
    : options_(options), team_(team), sum_parts_(std::move(sum_parts)) {
  if (options_.nesterov && !(options_.momentum > 0)) {
    throw Error("nesterov needs momentum", ErrorKind::kUsage)
        .at("optimizer")
        .expected("momentum > 0")
        .got("0");
  }
  for (const auto& entry : layout->entries()) {
    if (entry.kind != StateKind::kParameter) continue;
    auto group = group_of(groups, entry.name);
    if (group.frozen) continue;
    const auto size = static_cast<std::size_t>(entry.shape.elements());
    for (std::size_t begin = 0; begin < size; begin += kPieceFloats) {
      pieces_.push_back({parameters_.size(), entry.offset + begin, std::min(kPieceFloats, size - begin)});
    }
    names_.push_back(entry.name);
    parameters_.emplace_back(entry, std::move(group));
  }
  for (auto& name : slot_names(options_)) slots_.emplace_back(std::move(name), StateDict(layout));
}

void Optimizer::for_pieces(const std::function<void(std::size_t piece)>& work) const {
  const auto part = [&](std::size_t worker, std::size_t workers) {
    const auto end = pieces_.size() * (worker + 1) / workers;
    for (auto piece = pieces_.size() * worker / workers; piece < end; ++piece) work(piece);
  };
  if (team_ == nullptr || team_->size() == 1) return part(0, 1);
  team_->run([&](int w) { part(static_cast<std::size_t>(w), static_cast<std::size_t>(team_->size())); });
}

std::vector<double> Optimizer::sums(const std::function<double(const Piece&)>& measure) const {
  std::vector<double> parts(pieces_.size());
  for_pieces([&](std::size_t i) { parts[i] = measure(pieces_[i]); });
  std::vector<double> result(parameters_.size());
  for (std::size_t i = 0; i < pieces_.size(); ++i) result[pieces_[i].parameter] += parts[i];
  if (sum_parts_) sum_parts_(names_, result);
  return result;
}

double Optimizer::clip_scale(const StateDict& gradients) const {
  if (options_.clip_norm == 0) return 1;
  double total = 0;
  for (const double sum : sums([&](const Piece& piece) {
         return square_sum(gradients.arena().subspan(piece.begin, piece.size));
       })) {
    total += sum;
  }
  // As torch.nn.utils.clip_grad_norm_.
  return std::min(1.0, options_.clip_norm / (std::sqrt(total) + 1e-6));
}

void Optimizer::update(StateDict& state, const StateDict& gradients, double factor, std::int64_t step) {
  const auto& o = options_;
  const auto limit =
      o.clip_value > 0 ? static_cast<float>(o.clip_value) : std::numeric_limits<float>::infinity();
  const Update update{state,  gradients,
                      slots_, o.learning_rate * factor,
                      step,   {static_cast<float>(clip_scale(gradients)), limit}};
  const auto apply = [&](const auto& rule_for) {
    for_pieces([&](std::size_t i) {
      const double rate = update.rate * parameters_[pieces_[i].parameter].second.learning_rate_scale;
      rule_for(rate)(update.values(pieces_[i]), update.clip);
    });
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
  const auto weights = sums(
      [&](const Piece& piece) { return square_sum(update.state.arena().subspan(piece.begin, piece.size)); });
  const auto steps = sums([&](const Piece& piece) {
    return square_sum(update.gradients.arena().subspan(piece.begin, piece.size));
  });
  const auto scale = static_cast<double>(update.clip.scale);
  for_pieces([&](std::size_t i) {
    const auto& [entry, group] = parameters_[pieces_[i].parameter];
    double rate = update.rate * group.learning_rate_scale;
    double decay = 0;
    if (entry.shape.rank() > 1) {
      decay = options_.weight_decay;
      const double length = std::sqrt(weights[pieces_[i].parameter]);
      const double step = scale * std::sqrt(steps[pieces_[i].parameter]);
      if (length > 0 && step > 0) rate *= options_.trust * length / (step + decay * length);
    }
    const LarsRule rule{static_cast<float>(rate), static_cast<float>(decay),
                        static_cast<float>(options_.momentum)};
    rule(update.values(pieces_[i]), update.clip);
  });
}

void Optimizer::update_lamb(const Update& update) {
  const auto& o = options_;
  const auto t = static_cast<double>(update.step + 1);
  const auto rule_for = [&](const Piece& piece) {
    const bool adapted = parameters_[piece.parameter].first.shape.rank() > 1;
    return LambRule{static_cast<float>(adapted ? o.weight_decay : 0),
                    static_cast<float>(o.beta1),
                    static_cast<float>(o.beta2),
                    static_cast<float>(1 - o.beta1),
                    static_cast<float>(1 - o.beta2),
                    static_cast<float>(1 / (1 - std::pow(o.beta1, t))),
                    static_cast<float>(1 / std::sqrt(1 - std::pow(o.beta2, t))),
                    static_cast<float>(o.epsilon)};
  };
  const auto weights = sums(
      [&](const Piece& piece) { return square_sum(update.state.arena().subspan(piece.begin, piece.size)); });
  const auto steps =
      sums([&](const Piece& piece) { return rule_for(piece).prepare(update.values(piece), update.clip); });
  for_pieces([&](std::size_t i) {
    const auto parameter = pieces_[i].parameter;
    const auto& [entry, group] = parameters_[parameter];
    double rate = update.rate * group.learning_rate_scale;
    if (entry.shape.rank() > 1)
      rate *= trust_ratio(std::sqrt(weights[parameter]), std::sqrt(steps[parameter]));
    rule_for(pieces_[i]).apply(update.values(pieces_[i]), static_cast<float>(rate));
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

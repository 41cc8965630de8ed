#include "impart/train/optimizer.hpp"

#include <algorithm>

#include "impart/core/error.hpp"
#include "train/optimizers/optimizers.hpp"

namespace impart::train {

namespace {

constexpr Registry<OptimizerRulePtr>::Entry kOptimizers[] = {
    {"sgd", "stochastic gradient descent, with momentum if wanted", make_sgd},
    {"adam", "moving means of gradients and of their squares (Kingma and Ba 2015)", make_adam},
    {"adamw", "adam, with a weight decay apart from the gradient (Loshchilov and Hutter 2019)", make_adamw},
    {"rmsprop", "gradients divided by the root of their mean square (Tieleman and Hinton 2012)",
     make_rmsprop},
    {"lars", "a rate for each tensor, by the ratio of its length to its gradient's (You et al. 2017)",
     make_lars},
    {"lamb", "adam, with a rate for each tensor (You et al. 2020)", make_lamb},
};

}  // namespace

const Registry<OptimizerRulePtr>& optimizers() {
  static const Registry<OptimizerRulePtr> registry("optimizer", kOptimizers);
  return registry;
}

OptimizerRulePtr make_optimizer(const SettingTable& table) {
  return read_settings(table, "optimizer",
                       [](Settings& settings) { return optimizers().make(settings, "sgd"); });
}

Optimizer::Optimizer(OptimizerRulePtr rule, const StateLayoutPtr& layout,
                     std::span<const ParameterGroup> groups, WorkerTeam* team, SumParts sum_parts)
    : rule_(std::move(rule)),
      parameters_(
          layout, [&](const std::string& name) { return !group_of(groups, name).frozen; }, team,
          std::move(sum_parts)) {
  for (const auto& entry : parameters_.entries())
    scales_.push_back(group_of(groups, entry.name).learning_rate_scale);
  for (auto& name : rule_->slot_names()) slots_.emplace_back(std::move(name), StateDict(layout));
}

void Optimizer::update(StateDict& state, const StateDict& gradient, double factor, std::int64_t number) {
  rule_->update({state, gradient, slots_, rule_->learning_rate() * factor, number, parameters_, scales_});
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
  for (std::size_t i = 0; i < slots_.size(); ++i) copy_by_name(slots[i].second, slots_[i].second);
}

}  // namespace impart::train

#include "impart/train/options.hpp"

#include <array>

namespace impart::train {

namespace {

constexpr std::array<std::string_view, 6> kOptimizers{"sgd", "adam", "adamw", "rmsprop", "lars", "lamb"};
constexpr std::array<std::string_view, 3> kSolvers{"least_squares", "newton", "lbfgs"};
constexpr std::array<std::string_view, 7> kSchedules{"constant",   "step",      "multi_step", "cosine",
                                                     "polynomial", "one_cycle", "plateau"};

// What a kind reads of all the settings.
SettingTable known(std::string_view kind, std::span<const SettingDoc> docs, const SettingTable& all) {
  SettingTable table{{"kind", kind}};
  for (const auto& doc : docs) {
    if (const auto* value = find_setting(all, doc.key)) table.emplace_back(doc.key, *value);
  }
  return table;
}

template <class Made>
Made make(const Registry<Made>& registry, std::string_view kind, const SettingTable& all) {
  std::vector<SettingDoc> docs;
  auto defaults = Settings::defaults(&docs);
  registry.get(kind).make(defaults);
  return read_settings(known(kind, docs, all), "",
                       [&](Settings& settings) { return registry.make(settings, ""); });
}

}  // namespace

std::span<const std::string_view> optimizer_names() { return kOptimizers; }
std::span<const std::string_view> solver_names() { return kSolvers; }

OptimizerOptions default_options(OptimizerKind kind) {
  OptimizerOptions options{.kind = kind};
  if (kind == OptimizerKind::kAdam || kind == OptimizerKind::kAdamW || kind == OptimizerKind::kLamb)
    options.learning_rate = 0.001;
  if (kind == OptimizerKind::kAdamW || kind == OptimizerKind::kLamb) options.weight_decay = 0.01;
  if (kind == OptimizerKind::kLamb) options.epsilon = 1e-6;
  if (kind == OptimizerKind::kLars) options.momentum = 0.9;
  return options;
}

OptimizerRulePtr rule_of(const OptimizerOptions& o) {
  return make(optimizers(), kOptimizers[static_cast<std::size_t>(o.kind)],
              {{"learning_rate", o.learning_rate},
               {"momentum", o.momentum},
               {"nesterov", o.nesterov},
               {"weight_decay", o.weight_decay},
               {"beta1", o.beta1},
               {"beta2", o.beta2},
               {"epsilon", o.epsilon},
               {"alpha", o.alpha},
               {"centered", o.centered},
               {"trust", o.trust}});
}

SchedulePtr schedule_of(const ScheduleOptions& o) {
  return make(schedules(), kSchedules[static_cast<std::size_t>(o.kind)],
              {{"warmup_epochs", o.warmup_epochs},
               {"step_epochs", o.step_epochs},
               {"gamma", o.gamma},
               {"final_factor", o.final_factor},
               {"milestones", o.milestones},
               {"power", o.power},
               {"pct_start", o.pct_start},
               {"div_factor", o.div_factor},
               {"final_div_factor", o.final_div_factor},
               {"factor", o.factor},
               {"patience", o.patience},
               {"threshold", o.threshold},
               {"cooldown", o.cooldown},
               {"min_factor", o.min_factor}});
}

AveragePtr average_of(const AverageOptions& o) {
  SettingTable all{{"decay", o.decay}, {"start", o.start}};
  if (o.learning_rate > 0) all.emplace_back("learning_rate", o.learning_rate);
  constexpr std::array<std::string_view, 3> kKinds{"none", "ema", "swa"};
  return make(averages(), kKinds[static_cast<std::size_t>(o.kind)], all);
}

SolverPtr solver_of(const SolverOptions& o) {
  return make(solvers(), kSolvers[static_cast<std::size_t>(o.kind)],
              {{"ridge", o.ridge},
               {"tolerance", o.tolerance},
               {"max_iterations", o.max_iterations},
               {"memory", o.memory}});
}

}  // namespace impart::train

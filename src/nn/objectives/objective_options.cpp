#include "impart/nn/objective_options.hpp"

#include <array>

namespace impart::nn {

namespace {

constexpr std::array<std::string_view, 8> kNames{
    "binary_cross_entropy", "mean_squared_error", "l1", "huber", "hinge",
    "cross_entropy",        "multiclass_hinge",   "kl"};

}  // namespace

std::span<const std::string_view> objective_names() { return kNames; }

std::unique_ptr<Objective> make_objective(const ObjectiveOptions& options) {
  SettingTable settings{{"kind", kNames.at(static_cast<std::size_t>(options.kind))}};
  using enum ObjectiveKind;
  if (options.kind == kCrossEntropy || options.kind == kKl) {
    settings.emplace_back("label_smoothing", options.label_smoothing);
  }
  if (options.kind == kCrossEntropy) settings.emplace_back("class_weights", options.class_weights);
  if (options.kind == kHuber) settings.emplace_back("delta", options.delta);
  if (options.kind == kMulticlassHinge) {
    settings.emplace_back("margin", options.margin);
    settings.emplace_back("power", options.power);
  }
  return make_objective(settings);
}

}  // namespace impart::nn

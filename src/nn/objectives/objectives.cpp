#include "nn/objectives/objectives.hpp"

namespace impart::nn {

namespace {

using Objectives = Registry<std::unique_ptr<Objective>>;

constexpr Objectives::Entry kObjectives[] = {
    {"binary_cross_entropy",
     "-t log sigmoid(z) - (1 - t) log(1 - sigmoid(z)), mean over the classes (PyTorch's BCEWithLogitsLoss)",
     make_binary_cross_entropy},
    {"mean_squared_error", "(z - t)^2, mean over the classes (MSELoss)", make_mean_squared_error},
    {"l1", "|z - t|, mean over the classes (L1Loss)", make_l1},
    {"huber", "(z - t)^2 / 2 up to |z - t| = delta, a line beyond, mean over the classes (HuberLoss)",
     make_huber},
    {"hinge",
     "t max(0, 1 - z) + (1 - t) max(0, 1 + z), mean over the classes: a support vector machine for each",
     make_hinge},
    {"cross_entropy", "-sum t log softmax(z) (CrossEntropyLoss)", make_cross_entropy},
    {"multiclass_hinge",
     "sum over k (not the label) of max(0, margin - z_label + z_k)^power / classes (MultiMarginLoss)",
     make_multiclass_hinge},
    {"kl", "KL(t || softmax(z)): cross entropy less the target's entropy (KLDivLoss)", make_kl},
};

}  // namespace

const Objectives& objectives() {
  static const Objectives registry("objective", kObjectives);
  return registry;
}

std::unique_ptr<Objective> make_objective(const SettingTable& settings) {
  return read_settings(settings, "objective",
                       [](impart::Settings& read) { return objectives().make(read, "cross_entropy"); });
}

std::unique_ptr<Objective> make_objective(std::string_view kind) {
  auto defaults = impart::Settings::defaults();
  return objectives().get(kind).make(defaults);
}

std::unique_ptr<Objective> make_cross_entropy() { return make_objective("cross_entropy"); }
std::unique_ptr<Objective> make_mean_squared_error() { return make_objective("mean_squared_error"); }

}  // namespace impart::nn

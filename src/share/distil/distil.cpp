#include "impart/share/distil/distil.hpp"

#include <string>
#include <utility>

#include "impart/core/error.hpp"

namespace impart::share {

namespace {

class Distillation final : public nn::Objective {
 public:
  Distillation(const Tensor& teacher, const DistilOptions& options,
               std::shared_ptr<const nn::Objective> labels)
      : teacher_(teacher), options_(options), labels_(std::move(labels)) {}

  [[nodiscard]] std::string_view kind() const override { return "distillation"; }
  [[nodiscard]] nn::ObjectiveNeeds needs() const override { return {.rows = true}; }

  double evaluate(std::span<const float> outputs, const nn::Targets& targets, std::int64_t classes,
                  float scale, std::span<float> gradient) const override {
    const auto w = options_.kd_weight;
    const auto t = options_.temperature;
    double loss =
        (1 - w) * labels_->evaluate(outputs, targets, classes, scale * static_cast<float>(1 - w), gradient);
    if (targets.rows.empty()) return loss;
    // Of a sequence, a row of the dataset has several rows of outputs.
    const auto each = targets.labels.size() / targets.rows.size();
    const auto width = static_cast<std::size_t>(classes);
    for (std::size_t i = 0; i < targets.labels.size(); ++i) {
      const auto row = static_cast<std::size_t>(targets.rows[i / each]) * each + i % each;
      const double divergence =
          nn::divergence(teacher_.values().subspan(row * width, width), outputs.subspan(i * width, width), t,
                         w * t * t * static_cast<double>(scale),
                         gradient.empty() ? gradient : gradient.subspan(i * width, width));
      loss += w * t * t * divergence;
    }
    return loss;
  }
  [[nodiscard]] const nn::Objective& on_labels() const override { return *labels_; }

 private:
  const Tensor& teacher_;
  DistilOptions options_;
  std::shared_ptr<const nn::Objective> labels_;
};

}  // namespace

std::unique_ptr<nn::Objective> make_distillation(const Tensor& teacher, const DistilOptions& options,
                                                 std::shared_ptr<const nn::Objective> labels) {
  if (!(options.kd_weight >= 0 && options.kd_weight <= 1)) {
    throw Error("kd_weight is outside its range", ErrorKind::kUsage)
        .expected("0 to 1")
        .got(std::to_string(options.kd_weight));
  }
  const auto* plain = labels->as_cross_entropy();
  if (plain == nullptr || !plain->class_weights.empty()) {
    throw Error("a distillation mixes plain cross entropy with its teachers", ErrorKind::kUsage)
        .hint("no other objective, and no class_weights");
  }
  if (!(options.temperature > 0)) {
    throw Error("temperature is outside its range", ErrorKind::kUsage)
        .expected("above 0")
        .got(std::to_string(options.temperature));
  }
  return std::make_unique<Distillation>(teacher, options, std::move(labels));
}

}  // namespace impart::share

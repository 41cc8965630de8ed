#include "impart/share/distil.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "impart/core/error.hpp"

namespace impart::share {

namespace {

class Distillation final : public nn::Objective {
 public:
  Distillation(const Tensor& teacher, const DistilOptions& options)
      : teacher_(teacher), options_(options), cross_entropy_(nn::make_cross_entropy()) {}

  double evaluate(std::span<const float> outputs, const nn::Targets& targets, std::int64_t classes,
                  float scale, std::span<float> gradient) const override {
    const auto w = options_.kd_weight;
    const auto t = options_.temperature;
    double loss = (1 - w) * cross_entropy_->evaluate(outputs, targets, classes,
                                                     scale * static_cast<float>(1 - w), gradient);
    const auto width = static_cast<std::size_t>(classes);
    std::vector<float> student(width);
    for (std::size_t i = 0; i < targets.rows.size(); ++i) {
      const auto p = teacher_.values().subspan(static_cast<std::size_t>(targets.rows[i]) * width, width);
      nn::softmax(outputs.subspan(i * width, width), static_cast<float>(t), student);
      double divergence = 0;
      for (std::size_t c = 0; c < width; ++c) {
        // 0 log 0 is 0; a student's probability that underflowed is kept above zero.
        if (p[c] > 0) divergence += p[c] * std::log(p[c] / std::max(student[c], 1e-30F));
      }
      loss += w * t * t * divergence;
      if (gradient.empty()) continue;
      // d/dz of T^2 KL(p || softmax(z/T)) is T (softmax(z/T) - p).
      const auto factor = static_cast<float>(w * t) * scale;
      for (std::size_t c = 0; c < width; ++c) gradient[i * width + c] += factor * (student[c] - p[c]);
    }
    return loss;
  }

 private:
  const Tensor& teacher_;
  DistilOptions options_;
  std::unique_ptr<nn::Objective> cross_entropy_;
};

}  // namespace

std::unique_ptr<nn::Objective> make_distillation(const Tensor& teacher, const DistilOptions& options) {
  if (!(options.kd_weight >= 0 && options.kd_weight <= 1)) {
    throw Error("kd_weight is outside its range", ErrorKind::kUsage)
        .expected("0 to 1")
        .got(std::to_string(options.kd_weight));
  }
  if (!(options.temperature > 0)) {
    throw Error("temperature is outside its range", ErrorKind::kUsage)
        .expected("above 0")
        .got(std::to_string(options.temperature));
  }
  return std::make_unique<Distillation>(teacher, options);
}

}  // namespace impart::share

// Distillation: a student learns what its teachers think of each sample.
#pragma once

#include <memory>

#include "impart/core/tensor.hpp"
#include "impart/nn/objective.hpp"

namespace impart::share {

struct DistilOptions {
  double kd_weight = 0.5;    ///< w, in [0, 1]
  double temperature = 4.0;  ///< T > 0
};

/// (1 - w) CE(labels) + w T^2 KL(p_teacher^T || p_student^T) (Hinton, Vinyals, Dean 2015). `teacher`:
/// (dataset size x labels a sample, classes), the teachers' probabilities at temperature T, by a sample's row
/// in the dataset; borrowed. `labels`: what the labels are worth, a cross entropy without class weights.
/// Throws Error (usage) for another, and for options outside their ranges.
std::unique_ptr<nn::Objective> make_distillation(
    const Tensor& teacher, const DistilOptions& options,
    std::unique_ptr<nn::Objective> labels = nn::make_cross_entropy());

}  // namespace impart::share

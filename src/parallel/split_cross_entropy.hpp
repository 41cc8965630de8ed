// Cross entropy of outputs whose classes are split over ranks: nobody sees all of a row.
#pragma once

#include <memory>

#include "impart/nn/layer.hpp"
#include "impart/nn/objective.hpp"
#include "parallel/tensor_axis.hpp"

namespace impart::parallel {

/// The loss of `whole`, a cross entropy that is borrowed, for this rank's part of each row: the rows' maxima,
/// sums of exponentials and target outputs are what the ranks tell each other. For one thread at a time;
/// collective. Null when `whole` is another loss.
std::unique_ptr<nn::Objective> make_split_cross_entropy(const nn::Objective& whole, nn::Part part,
                                                        std::shared_ptr<TensorAxis> axis);

}  // namespace impart::parallel

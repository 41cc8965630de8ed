// The layers of a model whose tensors are split over ranks, beside those of nn that work on their part as on
// any other input. Made for a plan without ranks (`impart check`), their axis is null and they never run.
#pragma once

#include <memory>

#include "impart/nn/layer.hpp"
#include "parallel/tensor_axis.hpp"

namespace impart::parallel {

/// How the layer of one rank, which does a part of the work, is joined with the others' (Shoeybi et al. 2019,
/// section 3): f is the identity forward and a sum backward, g the other way round.
struct Joint {
  bool sum_gradients = false;  ///< f in front: every rank reads the whole input
  bool sum_outputs = false;    ///< g behind: every rank computes a share of the whole output
  bool bias = false;           ///< with g: a bias that is added once, to the sum
};

/// `inner` computes this rank's part, without the bias of `joint`, which becomes the last parameter, called
/// `bias`.
std::unique_ptr<nn::Layer> make_joined(std::unique_ptr<nn::Layer> inner, const Joint& joint,
                                       const std::string& bias, std::shared_ptr<TensorAxis> axis);

/// This rank's part of the channels (features) of a whole input.
std::unique_ptr<nn::Layer> make_slice(nn::Part part, std::shared_ptr<TensorAxis> axis);
/// The whole of which the input is this rank's part.
std::unique_ptr<nn::Layer> make_gather(nn::Part part, std::shared_ptr<TensorAxis> axis);

}  // namespace impart::parallel

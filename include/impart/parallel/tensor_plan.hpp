// TensorPlan: how the tensors of a model are split over the ranks of a tensor axis.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "impart/nn/layer.hpp"
#include "impart/nn/spec.hpp"

namespace impart::parallel {

class TensorAxis;

enum class LayerSplit : std::uint8_t {
  kWhole,     ///< every rank computes all of it
  kOutputs,   ///< dense and conv2d: the output's channels; backward sums the input's gradient over the ranks
  kInputs,    ///< dense and conv2d: the input's channels; forward sums the output over the ranks
  kHeads,     ///< attention: queries, keys and values by outputs, what follows by inputs
  kChannels,  ///< works on its part of the channels as on any input: batch_norm, grouped convolutions ...
};

/// Where a rank's part of a tensor lies in the whole: along `axis`, which is so many blocks, its part of
/// each.
struct TensorSlice {
  std::size_t axis = 0;
  std::int64_t blocks = 1;  ///< 3 where queries, keys and values stand one after another
};

/// Bytes that a rank sends over the tensor axis for one sample.
struct TensorTraffic {
  double forward = 0;
  double backward = 0;
};

/// What one rank of a tensor axis computes. Where a layer's input is whole, its outputs are split; where that
/// is split, its inputs (Shoeybi et al. 2019), so that two products cost one sum in each direction; what
/// stands between them works on channels. Outputs that somebody needs whole are gathered.
struct TensorPlan {
  nn::Part part;
  /// A model with the same layers and tensors, most of them smaller, and with layers that communicate. Reads
  /// the same inputs and gives the same outputs, on every rank.
  nn::ModelSpec local;
  std::map<std::string, LayerSplit> layers;                ///< of the whole model
  std::map<std::string, TensorSlice, std::less<>> slices;  ///< by a tensor's name; absent: it is whole
  TensorTraffic traffic;                                   ///< with all layers trained
};

/// The plan of rank `part.index` of `part.of`; a pure function of the model and of these. Without an `axis`
/// the local model can be measured, but not run. Throws Error (usage) as check_model does, and, with the
/// sizes that would do, when a layer's channels or heads cannot be split. `split_classes`: where the last
/// layer's output comes in parts, the local model's output is this rank's part, and its `classes` are that
/// part's; else it is whole.
TensorPlan plan_tensors(const nn::ModelSpec& spec, nn::Part part, std::shared_ptr<TensorAxis> axis = nullptr,
                        bool split_classes = false);

}  // namespace impart::parallel

#include "impart/share/transfer/transfer.hpp"

#include <algorithm>
#include <set>

#include "impart/core/error.hpp"
#include "impart/nn/layer.hpp"
#include "impart/nn/network.hpp"

namespace impart::share {

namespace {

/// Full names of a layer's tensors. Not all that begins with the layer's name is its own: layers' names may
/// have dots.
std::set<std::string> tensors_of(nn::ModelSpec spec, const std::string& layer) {
  nn::name_layers(spec);
  const auto tensors = nn::model_tensors(spec);
  std::set<std::string> names;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (spec.layers[i].name != layer) continue;
    for (const auto& tensor : tensors[i]) names.insert(layer + "." + tensor.name);
  }
  return names;
}

bool fits(const StateEntry& wanted, const StateEntry* found) {
  return found != nullptr && found->shape == wanted.shape && found->kind == wanted.kind;
}

}  // namespace

TransferResult transfer(const StateDict& source, const nn::ModelSpec& target, Head head, std::uint64_t seed) {
  TransferResult result{StateDict(nn::state_layout(target)), {}, {}};
  const auto head_layer = nn::head_of(target);
  const auto head_tensors = tensors_of(target, head_layer);
  const auto& layout = result.state.layout();

  const bool head_fits =
      std::all_of(layout.entries().begin(), layout.entries().end(), [&](const StateEntry& entry) {
        return !head_tensors.contains(entry.name) || fits(entry, source.layout().find(entry.name));
      });
  const bool replace = head == Head::kReplace || (head == Head::kAuto && !head_fits);

  std::string misfits;
  for (const auto& entry : layout.entries()) {
    if (replace && head_tensors.contains(entry.name)) {
      result.replaced.push_back(entry.name);
      continue;
    }
    const auto* found = source.layout().find(entry.name);
    if (!fits(entry, found)) {
      misfits += (misfits.empty() ? "" : ", ") + entry.name + " (" + entry.shape.str() + " wanted, " +
                 (found == nullptr ? "none" : found->shape.str()) + " found)";
      continue;
    }
    const auto from = source.values(*found);
    std::copy(from.begin(), from.end(), result.state.values(entry).begin());
    result.loaded.push_back(entry.name);
  }
  if (!misfits.empty()) {
    throw Error("the source's tensors do not fit the model")
        .got(misfits)
        .hint(head == Head::kKeep ? "head = \"replace\" makes a new head"
                                  : "the model must equal the source's but for its head");
  }
  if (replace) nn::initialise_layer(target, head_layer, seed, result.state);
  return result;
}

}  // namespace impart::share

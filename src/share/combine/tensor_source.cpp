#include "impart/share/combine/tensor_source.hpp"

namespace impart::share {

std::span<const float> StateSource::read(const StateEntry& entry, std::vector<float>& /*scratch*/) const {
  return state_.values(entry.name);
}

std::span<const float> CheckpointSource::read(const StateEntry& entry, std::vector<float>& scratch) const {
  scratch.resize(static_cast<std::size_t>(entry.shape.elements()));
  reader_.read(entry.name, scratch);
  return scratch;
}

}  // namespace impart::share

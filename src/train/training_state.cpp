#include "impart/train/training_state.hpp"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"

namespace impart::train {

namespace {

std::vector<StateEntry> part_entries(const nn::ObjectiveNeeds& needs) {
  std::vector<StateEntry> entries;
  for (const auto& part : needs.parts) entries.push_back({part.name, part.shape, part.kind, 0});
  return entries;
}

}  // namespace

StateLayoutPtr part_layout(const nn::ObjectiveNeeds& needs) {
  return std::make_shared<const StateLayout>(part_entries(needs));
}

StateLayoutPtr training_layout(const nn::ModelSpec& spec, const nn::ObjectiveNeeds& needs) {
  auto model = nn::state_layout(spec);
  if (needs.parts.empty()) return model;
  std::vector<StateEntry> entries(model->entries().begin(), model->entries().end());
  for (auto& part : part_entries(needs)) {
    if (model->find(part.name) != nullptr) {
      throw Error("the objective has a part of the same name as a tensor of the model", ErrorKind::kUsage)
          .got("'" + part.name + "'")
          .hint("give the model's layer another name");
    }
    entries.push_back(std::move(part));
  }
  return std::make_shared<const StateLayout>(std::move(entries));
}

StateDict training_state(const nn::ModelSpec& spec, const nn::ObjectiveNeeds& needs, const StateDict& model,
                         std::uint64_t seed) {
  StateDict state(training_layout(spec, needs));
  for (const auto& entry : model.layout().entries()) {
    std::ranges::copy(model.values(entry), state.values(entry.name).begin());
  }
  for (const auto& part : needs.parts) nn::initialise(part, part.name, seed, state.values(part.name));
  return state;
}

void take_model(const StateDict& trained, StateDict& model) {
  for (const auto& entry : model.layout().entries()) {
    std::ranges::copy(trained.values(entry.name), model.values(entry).begin());
  }
}

}  // namespace impart::train

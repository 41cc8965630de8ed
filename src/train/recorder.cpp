#include "train/recorder.hpp"

#include "impart/train/evaluator.hpp"

namespace impart::train {

void Recorder::event(std::int64_t epoch, std::int64_t step, const std::string& name, double value) {
  result_.history[name].push_back({step, value});
  result_.metrics[name] = value;
  if (task_.on_event) task_.on_event({epoch, step, name, value});
}

void Recorder::measure(std::int64_t epoch, std::int64_t step, const StateDict& state) {
  if (task_.validation == nullptr) return;
  const auto outputs = predict(comm_, task_.spec, state, *task_.validation, options_.threads);
  const auto metrics = classification_metrics(outputs, *task_.validation, task_.objective.on_labels());
  for (const auto& [name, value] : metrics) event(epoch, step, "validation." + name, value);
}

}  // namespace impart::train

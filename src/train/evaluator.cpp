#include "impart/train/evaluator.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "impart/core/worker_team.hpp"
#include "impart/metrics/classification.hpp"
#include "impart/nn/network.hpp"

namespace impart::train {

Tensor predict(const comm::Comm& comm, const nn::ModelSpec& spec, const StateDict& state,
               const data::Dataset& dataset, int threads) {
  const auto elements = static_cast<std::size_t>(spec.input.elements());
  const auto blocks = (dataset.size() + kEvaluationBatch - 1) / kEvaluationBatch;
  const auto rows = nn::check_model(spec).back().elements() / spec.classes;  // of a sample
  Tensor outputs(Shape{dataset.size() * rows, spec.classes});

  WorkerTeam team(threads);
  const auto stride = static_cast<std::int64_t>(comm.size()) * team.size();
  team.run([&](int worker) {
    nn::use_one_kernel_thread();
    std::optional<nn::Network> network;
    std::vector<float> inputs;
    for (auto block = static_cast<std::int64_t>(comm.rank()) * team.size() + worker; block < blocks;
         block += stride) {
      const auto first = block * kEvaluationBatch;
      const auto count = std::min(kEvaluationBatch, dataset.size() - first);
      if (!network || network->batch() != count) {
        network.emplace(spec, count);
        network->load(state);
      }
      inputs.resize(static_cast<std::size_t>(count) * elements);
      for (std::int64_t i = 0; i < count; ++i) {
        dataset.get(first + i, std::span(inputs).subspan(static_cast<std::size_t>(i) * elements, elements));
      }
      const auto result = network->forward({}, inputs);
      std::copy(result.begin(), result.end(), outputs.values().begin() + first * rows * spec.classes);
    }
  });
  // Each output was computed once; adding zeros leaves its bits.
  comm.sum_in_place(outputs.values(), "predict");
  return outputs;
}

std::map<std::string, double> classification_metrics(const Tensor& outputs, const data::Dataset& dataset,
                                                     const nn::Objective& objective,
                                                     std::span<const metrics::MetricPtr> wanted) {
  const auto classes = static_cast<std::size_t>(dataset.classes());
  std::vector<std::unique_ptr<metrics::MetricSum>> sums;
  for (const auto& metric : wanted) {
    metric->check(dataset.classes());
    sums.push_back(metric->start(dataset.classes()));
  }
  double loss = 0;
  double weight = 0;
  std::vector<std::int32_t> labels(static_cast<std::size_t>(dataset.labels_per_sample()));
  const auto width = labels.size() * classes;  // of a sample
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    const auto rows = outputs.values().subspan(static_cast<std::size_t>(i) * width, width);
    dataset.labels(i, labels);
    const auto position = static_cast<std::uint64_t>(i);
    for (std::size_t k = 0; k < labels.size(); ++k) {
      const auto row = rows.subspan(k * classes, classes);
      const metrics::Answer answer{row, metrics::argmax(row), labels[k]};
      for (auto& sum : sums) sum->add(answer);
    }
    const nn::Targets targets{.labels = labels, .rows = {&position, 1}};
    loss += objective.evaluate(rows, targets, dataset.classes(), 1.0F, {});
    weight += objective.weight(targets);
  }
  std::map<std::string, double> values{{"loss", weight == 0 ? 0 : loss / weight}};
  for (std::size_t i = 0; i < wanted.size(); ++i) values[wanted[i]->name()] = sums[i]->value();
  return values;
}

}  // namespace impart::train

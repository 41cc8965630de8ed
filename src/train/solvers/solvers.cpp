#include "train/solvers/solvers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "impart/comm/shards.hpp"
#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"
#include "impart/train/evaluator.hpp"
#include "impart/train/gradient_engine.hpp"
#include "train/recorder.hpp"

namespace impart::train {

namespace {

constexpr std::array<std::string_view, 3> kNames{"least_squares", "newton", "lbfgs"};

// Why a model is not linear; empty when it is.
std::string why_not_linear(const nn::ModelSpec& spec) {
  const nn::LayerSpec* dense = nullptr;
  for (const auto& layer : spec.layers) {
    if (layer.kind == "flatten" && dense == nullptr) continue;
    if (layer.kind == "dense" && dense == nullptr) {
      dense = &layer;
      continue;
    }
    return fmt::format("it takes (flatten and) one dense layer, and '{}' is of kind {}{}", layer.name,
                       layer.kind, dense == nullptr ? "" : ", after the first dense layer");
  }
  if (dense == nullptr) return "it takes (flatten and) one dense layer, and there is none";
  const auto layout = nn::state_layout(spec);
  const auto* weight = layout->find(dense->name + ".weight");
  if (weight == nullptr || weight->shape != Shape{spec.classes, spec.input.elements()})
    return fmt::format("layer '{}' does not see all of a sample at once (flatten it first)", dense->name);
  return "";
}

}  // namespace

std::span<const std::string_view> solver_names() { return kNames; }

std::string why_not(SolverKind kind, const nn::ModelSpec& spec) {
  if (kind != SolverKind::kLbfgs) return why_not_linear(spec);
  for (const auto& layer : spec.layers) {
    if (layer.kind == "dropout")
      return fmt::format("layer '{}' is a dropout, which changes the function from step to step", layer.name);
  }
  return "";
}

LinearModel linear_model(const nn::ModelSpec& spec) {
  if (const auto reason = why_not_linear(spec); !reason.empty())
    throw Error("this model cannot be solved for", ErrorKind::kUsage).at(spec.name).got(reason).collective();
  const auto layout = nn::state_layout(spec);
  const auto name = nn::head_of(spec);
  const bool bias = layout->find(name + ".bias") != nullptr;
  return {name + ".weight", bias ? name + ".bias" : "", spec.input.elements(), spec.classes};
}

std::size_t solver_memory(const SolverOptions& options, const nn::ModelSpec& spec, int shards, int ranks,
                          int threads) {
  const auto inputs = static_cast<std::size_t>(spec.input.elements()) + 1;
  const auto outputs = static_cast<std::size_t>(spec.classes);
  const auto parameters = nn::state_layout(spec)->arena_size() * sizeof(float);
  std::size_t sum = 0;
  switch (options.kind) {
    case SolverKind::kLbfgs:
      return parameters * (2 * static_cast<std::size_t>(options.memory) + 6);
    case SolverKind::kLeastSquares:
      sum = inputs * (inputs + outputs);
      break;
    case SolverKind::kNewton:
      sum = inputs * inputs * outputs *
            (options.objective == nn::ObjectiveKind::kCrossEntropy ? outputs : std::size_t{1});
      break;
  }
  const int mine = std::max(1, shards / std::max(1, ranks));
  const int workers = comm::largest_rank_count(mine, threads);
  int depth = 0;
  for (int first = 0; first < shards; first += mine / workers) {
    depth = std::max(depth, stack_depth({first, std::min(shards, first + mine / workers)}, shards));
  }
  // The workers' partial sums, their total, its exchange, and a copy that is decomposed.
  return sum * sizeof(double) * static_cast<std::size_t>(workers * depth + 3);
}

TrainResult solve(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                  StateDict& state) {
  if (task.train->size() == 0) throw Error("there is nothing to train on").at(options.stage).collective();
  switch (options.solver->kind) {
    case SolverKind::kLeastSquares:
      return solve_least_squares(comm, options, task, state);
    case SolverKind::kNewton:
      return solve_newton(comm, options, task, state);
    case SolverKind::kLbfgs:
      return solve_lbfgs(comm, options, task, state);
  }
  throw Error("unknown solver", ErrorKind::kUsage);
}

void finish_linear(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                   const std::vector<double>& weights, std::int64_t steps, StateDict& state,
                   TrainResult& result) {
  const auto model = linear_model(task.spec);
  const auto inputs = static_cast<std::size_t>(model.inputs);
  const auto weight = state.values(model.weight);
  double squares = 0;
  for (std::size_t k = 0; k < static_cast<std::size_t>(model.outputs); ++k) {
    const auto row = std::span(weights).subspan(k * (inputs + 1), inputs + 1);
    for (std::size_t i = 0; i < inputs; ++i) {
      weight[k * inputs + i] = static_cast<float>(row[i]);
      squares += row[i] * row[i];
    }
    if (!model.bias.empty()) state.values(model.bias)[k] = static_cast<float>(row[inputs]);
  }
  const auto outputs = predict(comm, task.spec, state, *task.train, options.threads);
  const double loss = classification_metrics(outputs, *task.train, task.objective.on_labels()).at("loss");
  Recorder record(comm, options, task, result);
  record.event(steps, steps, "train.loss", loss + options.l2 / 2 * squares);
  record.measure(steps, steps, state);
  result.epochs = result.steps = result.kept_step = steps;
  result.samples = steps * task.train->size();
}

}  // namespace impart::train

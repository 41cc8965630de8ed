#include "train/solvers/solvers.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "impart/comm/shards.hpp"
#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"
#include "impart/train/evaluator.hpp"
#include "train/recorder.hpp"

namespace impart::train {

namespace {

constexpr Registry<SolverPtr>::Entry kSolvers[] = {
    {"least_squares", "ridge regression on one-hot labels, exactly; for linear models", make_least_squares},
    {"newton", "logistic regression by Newton's method, multinomial or one model a class; for linear models",
     make_newton},
    {"lbfgs", "limited-memory BFGS on the whole training set's gradient; for any smooth model", make_lbfgs},
};

}  // namespace

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

const Registry<SolverPtr>& solvers() {
  static const Registry<SolverPtr> registry("solver", kSolvers);
  return registry;
}

SolverPtr make_solver(const SettingTable& table) {
  return read_settings(table, "solver", [](Settings& settings) { return solvers().make(settings, ""); });
}

Capabilities Solver::capabilities() const {
  const auto steps = fmt::format("{} does not work step by step, and has no use for it", kind());
  Capabilities result{.key = "optimizer", .uses = {{Feature::kSolver, {"optimizer"}}}};
  using enum Feature;
  for (const auto feature : {kEpochs, kSchedule, kAccumulate, kLocalSteps, kAverage, kKeep, kEarlyStopping})
    result.refuses[feature] = {steps};
  result.refuses[kSampler] =
      result.refuses[kAugment] = {fmt::format("{} sees each sample once, as it is", kind())};
  result.refuses[kGroupRates] = {fmt::format("{} has no learning rate", kind())};
  result.refuses[kTransforms] = {fmt::format("{} takes no gradient transforms", kind())};
  result.refuses[kTensorAxis] = {"a solver needs the whole model on every rank: tensor = 1"};
  return result;
}

double read_penalty(Settings& settings) {
  double l2 = 0;
  settings.read("l2", l2, at_least(0),
                "times half the sum of the squares of all weights is added to the loss");
  return l2;
}

LinearModel linear_model(const nn::ModelSpec& spec) {
  if (const auto reason = why_not_linear(spec); !reason.empty())
    throw Error("this model cannot be solved for", ErrorKind::kUsage).at(spec.name).got(reason).collective();
  const auto layout = nn::state_layout(spec);
  const auto name = nn::head_of(spec);
  const bool bias = layout->find(name + ".bias") != nullptr;
  return {name + ".weight", bias ? name + ".bias" : "", spec.input.elements(), spec.classes};
}

std::size_t sums_memory(std::size_t values, int shards, int ranks, int threads) {
  const int mine = std::max(1, shards / std::max(1, ranks));
  const int workers = comm::largest_rank_count(mine, threads);
  int depth = 0;
  for (int first = 0; first < shards; first += mine / workers) {
    depth = std::max(depth, comm::stack_depth({first, std::min(shards, first + mine / workers)}, shards));
  }
  // The workers' partial sums, their total, its exchange, and a copy that is decomposed.
  return values * sizeof(double) * static_cast<std::size_t>(workers * depth + 3);
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

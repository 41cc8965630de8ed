// train: a network from its initial values, or on from another's. transfer: from another, for another task.

#include <fmt/format.h>

#include "impart/core/counted.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "impart/data/partition.hpp"
#include "impart/nn/network.hpp"
#include "impart/share/transfer/transfer.hpp"
#include "stages/check_context.hpp"
#include "stages/kinds.hpp"
#include "stages/run_context.hpp"

namespace impart::stages {

namespace {

// "5 epochs", "newton".
std::string effort_text(const TrainingSettings& training) {
  if (training.solver)
    return std::string(train::solver_names()[static_cast<std::size_t>(training.solver->kind)]);
  return counted(training.epochs, "epoch");
}

// A pattern that matches no parameter is a typing mistake.
void check_groups(CheckContext& context, const std::string& path, const TrainingSettings& training,
                  const nn::ModelSpec& spec) {
  for (const auto& [key, text] : train::unused_patterns(training.groups, *nn::state_layout(spec)))
    context.problem(path + "." + key, text);
}

class TrainStage final : public Stage {
 public:
  explicit TrainStage(const StageSettings& common)
      : Stage(common), settings_(std::get<TrainSettings>(common.settings)) {}

  [[nodiscard]] StageUses uses() const override {
    StageUses uses{{}, {settings_.model}, {settings_.training.dataset}};
    if (!settings_.init.empty()) uses.artifacts.push_back({settings_.init, "init"});
    return uses;
  }

  [[nodiscard]] std::string describe() const override {
    const auto& training = settings_.training;
    const auto what = settings_.init.empty() ? "train " + settings_.model : "fine-tune " + settings_.init;
    if (!settings_.cyclic) return fmt::format("{} on {}, {}", what, training.dataset, effort_text(training));
    return fmt::format("{} on {} of {}, {}", what, counted(settings_.cyclic->parts, "part"), training.dataset,
                       counted(settings_.cyclic->rounds, "round"));
  }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    const auto& path = common().path;
    const auto* spec = context.model(path + ".model", settings_.model);
    if (spec == nullptr) return std::nullopt;
    context.init(path + ".init", settings_.init, *spec);
    check_groups(context, path, settings_.training, *spec);
    context.training(path, settings_.training, *spec,
                     settings_.cyclic ? Trainees::kInTurn : Trainees::kRanks);
    const auto* data = context.dataset(path + ".dataset", settings_.training.dataset);
    if (settings_.cyclic && data != nullptr && data->train_samples < settings_.cyclic->parts) {
      context.problem(path + ".parts", fmt::format("expected at most one part a training sample, {}, got {}",
                                                   data->train_samples, settings_.cyclic->parts));
    }
    return ModelOutline{{*spec}};
  }

  [[nodiscard]] double cost(RunContext& context) const override {
    const int rounds = settings_.cyclic ? settings_.cyclic->rounds : 1;
    return rounds * training_cost(context, settings_.training, *context.deck().find_model(settings_.model));
  }

  // A visit's rank trains alone, whatever the layers are.
  [[nodiscard]] int least_ranks(RunContext& context) const override {
    if (settings_.cyclic) return 1;
    return least_training_ranks(settings_.training, *context.deck().find_model(settings_.model));
  }

  StageResult run(RunContext& context) const override {
    const auto& spec = *context.deck().find_model(settings_.model);
    auto state = context.initial_state(spec, settings_.init, settings_.training);
    if (settings_.cyclic) {
      share::FederateOptions options;
      options.rounds = settings_.cyclic->rounds;
      return federate_model(context, name(), settings_.training, spec, std::move(options), nullptr,
                            parts(context), std::move(state));
    }
    const auto objective = nn::make_objective(settings_.training.objective);
    return train_model(context, name(), settings_.training, spec, *objective,
                       context.training_data(settings_.training), std::move(state));
  }

 private:
  // Of the training data, as equal as can be.
  [[nodiscard]] std::vector<data::DatasetPtr> parts(RunContext& context) const {
    const auto& training = settings_.training;
    const auto data = context.training_data(training);
    const auto count = settings_.cyclic->parts;
    if (data->size() < count) {
      throw Error("some parts would have no samples")
          .at(fmt::format("{}.parts", common().path))
          .expected(fmt::format("at most {}, the samples of the training part", data->size()))
          .got(std::to_string(count))
          .collective();
    }
    return cut(context.comm(), data, [&] { return data::partition_iid(*data, count, training.seed); });
  }

  TrainSettings settings_;
};

// The source's network with another number of classes. Throws Error when its head is not dense.
nn::ModelSpec with_classes(nn::ModelSpec spec, int classes) {
  if (spec.classes == classes) return spec;
  const auto head = nn::head_of(spec);
  spec.classes = classes;
  for (auto& layer : spec.layers) {
    if (layer.name != head) continue;
    for (auto& [key, value] : layer.settings) {
      if (layer.kind == "dense" && key == "units") {
        value = std::int64_t{classes};
        return spec;
      }
    }
  }
  throw Error("the source's head cannot be given other classes").hint("name a `model`");
}

class TransferStage final : public Stage {
 public:
  explicit TransferStage(const StageSettings& common)
      : Stage(common), settings_(std::get<TransferSettings>(common.settings)) {}

  [[nodiscard]] StageUses uses() const override {
    StageUses uses{{{settings_.from, "source"}}, {}, {settings_.training.dataset}};
    if (!settings_.model.empty()) uses.models.push_back(settings_.model);
    return uses;
  }

  [[nodiscard]] std::string describe() const override {
    return fmt::format("transfer {} to {}, {}", settings_.from, settings_.training.dataset,
                       effort_text(settings_.training));
  }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    const auto& path = common().path;
    const auto* source = context.network(path + ".from", settings_.from);
    const auto* named = context.model(path + ".model", settings_.model);
    const auto* data = context.dataset(path + ".dataset", settings_.training.dataset);
    if (source == nullptr || data == nullptr || (named == nullptr && !settings_.model.empty()))
      return std::nullopt;
    try {
      const auto target = named != nullptr ? *named : with_classes(*source, data->classes);
      // The transfer itself, on empty values: tells which tensors do not fit.
      const StateDict zeros(nn::state_layout(*source));
      share::transfer(zeros, target, settings_.head, 0);
      check_groups(context, path, settings_.training, target);
      context.training(path, settings_.training, target);
      return ModelOutline{{target}};
    } catch (const Error& e) {
      context.problem(path + (settings_.model.empty() ? ".from" : ".model"), e.what());
      return std::nullopt;
    }
  }

  [[nodiscard]] double cost(RunContext& context) const override {
    return training_cost(context, settings_.training, target(context));
  }

  [[nodiscard]] int least_ranks(RunContext& context) const override {
    return least_training_ranks(settings_.training, target(context));
  }

  StageResult run(RunContext& context) const override {
    const auto& source = context.model(settings_.from);
    const auto& training = settings_.training;
    const auto spec = target(context);
    require_same_characters(context, settings_.from, training.dataset);
    share::TransferResult moved;
    comm::agree(context.comm(), settings_.from,
                [&] { moved = share::transfer(source.state, spec, settings_.head, training.seed); });
    log::info(fmt::format("{}: {} tensors from {}, {} new", name(), moved.loaded.size(), settings_.from,
                          moved.replaced.size()));
    const auto objective = nn::make_objective(training.objective);
    return train_model(context, name(), training, spec, *objective, context.training_data(training),
                       std::move(moved.state));
  }

 private:
  [[nodiscard]] nn::ModelSpec target(RunContext& context) const {
    if (!settings_.model.empty()) return *context.deck().find_model(settings_.model);
    return with_classes(context.model(settings_.from).members.front().spec,
                        context.deck().find_dataset(settings_.training.dataset)->classes);
  }

  TransferSettings settings_;
};

}  // namespace

std::unique_ptr<Stage> make_train(const StageSettings& settings) {
  return std::make_unique<TrainStage>(settings);
}

std::unique_ptr<Stage> make_transfer(const StageSettings& settings) {
  return std::make_unique<TransferStage>(settings);
}

}  // namespace impart::stages

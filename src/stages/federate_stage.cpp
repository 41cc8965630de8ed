// federate: clients train on data of their own, and only their models are averaged.

#include "impart/share/federate/federate.hpp"

#include <fmt/format.h>

#include "impart/core/counted.hpp"
#include "impart/data/partition.hpp"
#include "impart/nn/network.hpp"
#include "impart/share/transfer/transfer.hpp"
#include "stages/check_context.hpp"
#include "stages/kinds.hpp"
#include "stages/run_context.hpp"

namespace impart::stages {

namespace {

class FederateStage final : public Stage {
 public:
  explicit FederateStage(const StageSettings& common)
      : Stage(common), settings_(std::get<FederateSettings>(common.settings)) {}

  [[nodiscard]] StageUses uses() const override {
    StageUses uses{{}, {settings_.model}, {settings_.training.dataset}};
    if (!settings_.init.empty()) uses.artifacts.push_back({settings_.init, "init"});
    return uses;
  }

  [[nodiscard]] std::string describe() const override {
    return fmt::format("federate {}, {}", counted(settings_.clients, "client"),
                       counted(settings_.rounds, "round"));
  }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    const auto& path = common().path;
    const auto* spec = context.model(path + ".model", settings_.model);
    if (spec == nullptr) return std::nullopt;
    context.init(path + ".init", settings_.init, *spec);
    context.training(path, settings_.training, *spec, Trainees::kClients);
    const auto* data = context.dataset(path + ".dataset", settings_.training.dataset);
    if (data != nullptr && data->train_samples < settings_.clients) {
      context.problem(path + ".clients",
                      fmt::format("expected at most one client a training sample, {}, got {}",
                                  data->train_samples, settings_.clients));
    }
    if (data != nullptr && data->labels_per_sample > 1 && settings_.partition == PartitionKind::kDirichlet) {
      context.problem(path + ".partition", "deals samples by their class, which sequences do not have");
    }
    return ModelOutline{{*spec}};
  }

  [[nodiscard]] double cost(RunContext& context) const override {
    return settings_.rounds * settings_.fraction_fit *
           training_cost(context, settings_.training, *context.deck().find_model(settings_.model));
  }

  StageResult run(RunContext& context) const override {
    const auto& training = settings_.training;
    const auto& spec = *context.deck().find_model(settings_.model);
    auto state = context.initial_state(spec, settings_.init, training);
    share::FederateOptions options;
    options.rounds = settings_.rounds;
    options.fraction_fit = settings_.fraction_fit;
    const auto& train = context.data(training.dataset).part(Part::kTrain);
    auto defaults = Settings::defaults();
    const auto algorithm = share::federated_algorithms().make(defaults, "fedavg");
    return federate_model(context, name(), training, spec, std::move(options), algorithm.get(),
                          clients(context, train), std::move(state));
  }

 private:
  [[nodiscard]] std::vector<data::DatasetPtr> clients(const RunContext& context,
                                                      const data::DatasetPtr& train) const {
    const auto seed = settings_.training.seed;
    return cut(context.comm(), train, [&] {
      return settings_.partition == PartitionKind::kIid
                 ? data::partition_iid(*train, settings_.clients, seed)
                 : data::partition_dirichlet(*train, settings_.clients, settings_.alpha,
                                             settings_.min_samples, seed);
    });
  }

  FederateSettings settings_;
};

}  // namespace

std::unique_ptr<Stage> make_federate(const StageSettings& settings) {
  return std::make_unique<FederateStage>(settings);
}

}  // namespace impart::stages

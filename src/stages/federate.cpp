// federate: clients train on data of their own, and only their models are averaged.

#include "impart/share/federate/federate.hpp"

#include <fmt/format.h>

#include <array>

#include "impart/core/counted.hpp"
#include "impart/data/partition.hpp"
#include "impart/nn/network.hpp"
#include "impart/share/transfer/transfer.hpp"
#include "impart/stages/check_context.hpp"
#include "impart/stages/run_context.hpp"
#include "impart/train/read_training.hpp"
#include "stages/kinds.hpp"

namespace impart::stages {

namespace {

class FederateStage final : public Stage {
 public:
  FederateStage(Settings& settings, const Deck& deck) {
    settings.require("model", model_, "a [model.*]");
    settings.read("init", init_, "a stage, or a path that ends in .h5, to start from; empty: initial values");
    settings.require("clients", clients_, between(1, 1 << 20).in("clients"),
                     "among which the data are dealt");
    settings.read("rounds", rounds_, between(1, 1'000'000).in("rounds"),
                  "after each of which models are averaged");
    settings.read("fraction_fit", fraction_fit_, above_up_to(0, 1),
                  "part of the clients that trains in a round");
    algorithm_ = share::federated_algorithms().read(
        settings, "algorithm", "fedavg", "what clients train with, and what the server makes of it");
    training_ = train::read_training(settings, deck.objective_of(model_), deck.run.seed,
                                     {.epochs = "local_epochs", .is_client = true},
                                     std::array{algorithm_->capabilities()});
    read_partition(settings.kind_table("partition"));
  }

  [[nodiscard]] StageUses uses() const override {
    StageUses uses{{}, {model_}, {training_.dataset}};
    if (!init_.empty()) uses.artifacts.push_back({init_, "init"});
    return uses;
  }

  [[nodiscard]] std::string describe() const override {
    return fmt::format("federate {}, {}", counted(clients_, "client"), counted(rounds_, "round"));
  }

  [[nodiscard]] std::string model() const override { return model_; }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    const auto* spec = context.model(path() + ".model", model_);
    if (spec == nullptr) return std::nullopt;
    context.init(path() + ".init", init_, *spec);
    context.training(path(), training_, *spec, Trainees::kClients);
    if (const auto* data = context.dataset(path() + ".dataset", training_.dataset))
      check_partition(context, *data, *spec);
    return ModelOutline{{*spec}};
  }

  [[nodiscard]] double cost(RunContext& context) const override {
    return rounds_ * fraction_fit_ * training_cost(context, training_, *context.deck().find_model(model_));
  }

  StageResult run(RunContext& context) const override {
    const auto& spec = *context.deck().find_model(model_);
    auto state = context.initial_state(spec, init_, training_);
    share::FederateOptions options;
    options.rounds = rounds_;
    options.fraction_fit = fraction_fit_;
    const auto& train = context.data(training_.dataset).part(data::Part::kTrain);
    return federate_model(context, name(), training_, spec, std::move(options), algorithm_.get(),
                          clients(context, train), std::move(state));
  }

 private:
  enum class Partition : std::uint8_t { kIid, kDirichlet };

  void read_partition(Settings settings) {
    settings.choose("kind", partition_, {{"iid", Partition::kIid}, {"dirichlet", Partition::kDirichlet}},
                    "equal shares in random order; or each class in proportions of its own");
    if (partition_ == Partition::kDirichlet || settings.is_documenting()) {
      settings.read("alpha", alpha_, above(0), "of dirichlet: small ones give each client few classes");
      settings.read("min_samples", min_samples_, at_least(1).in("samples"),
                    "of dirichlet: that each client has");
    }
    settings.finish();
  }

  void check_partition(CheckContext& context, const DatasetOutline& data, const nn::ModelSpec& spec) const {
    const auto each = data.train_samples / clients_;
    if (each == 0) {
      context.problem(path() + ".clients",
                      fmt::format("expected at most one client a training sample, {}, got {}",
                                  data.train_samples, clients_));
      return;
    }
    if (partition_ == Partition::kIid) {
      context.few_samples(path() + ".clients", each, spec, training_.options.groups);
      return;
    }
    if (each < min_samples_) {
      context.problem(
          path() + ".partition.min_samples",
          fmt::format("expected at most {}, for {} of {}, got {}", each, counted(clients_, "client"),
                      counted(data.train_samples, "training sample"), min_samples_));
    }
    context.few_samples(path() + ".partition.min_samples", min_samples_, spec, training_.options.groups);
    if (data.labels_per_sample > 1)
      context.problem(path() + ".partition", "deals samples by their class, which sequences do not have");
  }

  [[nodiscard]] std::vector<data::DatasetPtr> clients(const RunContext& context,
                                                      const data::DatasetPtr& train) const {
    const auto seed = training_.options.seed;
    return cut(context.comm(), train, [&] {
      return partition_ == Partition::kIid
                 ? data::partition_iid(*train, clients_, seed)
                 : data::partition_dirichlet(*train, clients_, alpha_, min_samples_, seed);
    });
  }

  std::string model_;
  std::string init_;
  int clients_ = 2;
  int rounds_ = 1;
  double fraction_fit_ = 1.0;
  std::unique_ptr<share::FederatedAlgorithm> algorithm_;
  Partition partition_ = Partition::kIid;
  double alpha_ = 0.5;
  std::int64_t min_samples_ = 10;
  train::Training training_;  // of one client in one round
};

}  // namespace

std::unique_ptr<Stage> make_federate(Settings& settings, const Deck& deck) {
  return std::make_unique<FederateStage>(settings, deck);
}

}  // namespace impart::stages

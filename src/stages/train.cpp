// train: a network from its initial values, or on from another's.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "impart/core/counted.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "impart/data/partition.hpp"
#include "impart/nn/network.hpp"
#include "impart/share/capabilities.hpp"
#include "impart/stages/check_context.hpp"
#include "impart/stages/run_context.hpp"
#include "impart/train/read_training.hpp"
#include "stages/kinds.hpp"

namespace impart::stages {

namespace {

/// `order = "cyclic"`: the training part is cut into `parts`, which stay where they are, and the model visits
/// them in turn (share::cyclic_transfer).
struct Cyclic {
  int parts = 8;   ///< default: the run's shards
  int rounds = 1;  ///< `epochs`: how often it goes round
};

constexpr std::array<std::string_view, 3> kCyclicKeys = {"parts", "local_epochs", "local_batch_size"};

bool is_cyclic(Settings& settings) {
  std::size_t order = 0;
  const bool good = settings.choose_word("order", order, {"together", "cyclic"},
                                         "of the ranks; cyclic: the model visits parts of the data in turn");
  // A misspelt one is told already: what else is there says which was meant.
  return good ? order == 1 : std::ranges::any_of(kCyclicKeys, [&](auto key) { return settings.has(key); });
}

class TrainStage final : public Stage {
 public:
  TrainStage(Settings& settings, const Deck& deck) {
    settings.require("model", model_, "a [model.*]");
    settings.read("init", init_, "a stage, or a path that ends in .h5, to start from; empty: initial values");
    const bool cyclic = is_cyclic(settings);
    const auto objective = deck.objective_of(model_);
    if (cyclic) {
      read_cyclic(settings, deck);
      training_ =
          train::read_training(settings, objective, deck.run.seed, {"local_epochs", "local_batch_size"},
                               std::array{share::cyclic_capabilities()});
    } else {
      training_ = train::read_training(settings, objective, deck.run.seed);
      for (const auto key : kCyclicKeys) settings.refuse(key, "only with order = \"cyclic\"");
    }
  }

  [[nodiscard]] StageUses uses() const override {
    StageUses uses{{}, {model_}, {training_.dataset}};
    if (!init_.empty()) uses.artifacts.push_back({init_, "init"});
    return uses;
  }

  [[nodiscard]] std::string describe() const override {
    const auto what = init_.empty() ? "train " + model_ : "fine-tune " + init_;
    if (!cyclic_) return fmt::format("{} on {}, {}", what, training_.dataset, training_.effort());
    return fmt::format("{} on {} of {}, {}", what, counted(cyclic_->parts, "part"), training_.dataset,
                       counted(cyclic_->rounds, "round"));
  }

  [[nodiscard]] std::string model() const override { return model_; }
  [[nodiscard]] comm::MeshShape mesh() const override { return training_.options.mesh; }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    const auto* spec = context.model(path() + ".model", model_);
    if (spec == nullptr) return std::nullopt;
    context.init(path() + ".init", init_, *spec);
    context.training(path(), training_, *spec, cyclic_ ? Trainees::kInTurn : Trainees::kRanks);
    const auto* data = context.dataset(path() + ".dataset", training_.dataset);
    if (cyclic_ && data != nullptr && data->train_samples < cyclic_->parts) {
      context.problem(path() + ".parts",
                      fmt::format("expected at most one part a training sample, {}, got {}",
                                  data->train_samples, cyclic_->parts));
    }
    return ModelOutline{{*spec}};
  }

  [[nodiscard]] double cost(RunContext& context) const override {
    const int rounds = cyclic_ ? cyclic_->rounds : 1;
    return rounds * training_cost(context, training_, *context.deck().find_model(model_));
  }

  // A visit's rank trains alone, whatever the layers are.
  [[nodiscard]] int least_ranks(RunContext& context) const override {
    if (cyclic_) return 1;
    return least_training_ranks(training_, *context.deck().find_model(model_));
  }

  StageResult run(RunContext& context) const override {
    const auto& spec = *context.deck().find_model(model_);
    auto state = context.initial_state(spec, init_, training_);
    if (cyclic_) {
      share::FederateOptions options;
      options.rounds = cyclic_->rounds;
      return federate_model(context, name(), training_, spec, std::move(options), nullptr, parts(context),
                            std::move(state));
    }
    return train_model(context, name(), training_, spec, *training_.objective,
                       context.training_data(training_), std::move(state));
  }

 private:
  void read_cyclic(Settings& settings, const Deck& deck) {
    cyclic_ = Cyclic{.parts = deck.run.shards};
    settings.read("parts", cyclic_->parts, between(1, 1 << 20), "of the training part, each of one rank");
    settings.read("epochs", cyclic_->rounds, between(1, 1'000'000).in("rounds"),
                  "how often the model goes round");
    if (!settings.has("batch_size")) return;
    settings.refuse(
        "batch_size",
        "is a batch of all ranks together, and with order = \"cyclic\" one trains at a time: give "
        "`local_batch_size`");
  }

  // Of the training data, as equal as can be.
  [[nodiscard]] std::vector<data::DatasetPtr> parts(RunContext& context) const {
    const auto data = context.training_data(training_);
    const auto count = cyclic_->parts;
    if (data->size() < count) {
      throw Error("some parts would have no samples")
          .at(fmt::format("{}.parts", path()))
          .expected(fmt::format("at most {}, the samples of the training part", data->size()))
          .got(std::to_string(count))
          .collective();
    }
    return cut(context.comm(), data,
               [&] { return data::partition_iid(*data, count, training_.options.seed); });
  }

  std::string model_;
  std::string init_;
  /// With `cyclic_`, that of one visit.
  train::Training training_;
  std::optional<Cyclic> cyclic_;
};

}  // namespace

std::unique_ptr<Stage> make_train(Settings& settings, const Deck& deck) {
  return std::make_unique<TrainStage>(settings, deck);
}

}  // namespace impart::stages

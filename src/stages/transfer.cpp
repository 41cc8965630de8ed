// transfer: a network from another, for another task.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "impart/core/counted.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "impart/data/partition.hpp"
#include "impart/nn/network.hpp"
#include "impart/share/transfer/transfer.hpp"
#include "impart/stages/check_context.hpp"
#include "impart/stages/run_context.hpp"
#include "impart/train/read_training.hpp"
#include "stages/kinds.hpp"

namespace impart::stages {

namespace {

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
  TransferStage(Settings& settings, const Deck& deck) {
    settings.require("from", from_, "the stage, or the path that ends in .h5, whose weights it starts with");
    settings.read("model", model_, "a [model.*]; empty: the source's, with the dataset's classes");
    settings.choose(
        "head", head_,
        {{"auto", share::Head::kAuto}, {"replace", share::Head::kReplace}, {"keep", share::Head::kKeep}},
        "the last layer with parameters: made anew, kept, or auto: made anew when its shape differs");
    const auto* source = deck.find_stage(from_);  // of those that come before
    leaves_model_ = !model_.empty() || source == nullptr ? model_ : source->model();
    training_ = train::read_training(settings, deck.objective_of(leaves_model_), deck.run.seed);
  }

  [[nodiscard]] StageUses uses() const override {
    StageUses uses{{{from_, "source"}}, {}, {training_.dataset}};
    if (!model_.empty()) uses.models.push_back(model_);
    return uses;
  }

  [[nodiscard]] std::string describe() const override {
    return fmt::format("transfer {} to {}, {}", from_, training_.dataset, training_.effort());
  }

  [[nodiscard]] std::string model() const override { return leaves_model_; }
  [[nodiscard]] comm::MeshShape mesh() const override { return training_.options.mesh; }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    const auto* source = context.network(path() + ".from", from_);
    const auto* named = context.model(path() + ".model", model_);
    const auto* data = context.dataset(path() + ".dataset", training_.dataset);
    if (source == nullptr || data == nullptr || (named == nullptr && !model_.empty())) return std::nullopt;
    try {
      const auto target = named != nullptr ? *named : with_classes(*source, data->classes);
      // The transfer itself, on empty values: tells which tensors do not fit.
      const StateDict zeros(nn::state_layout(*source));
      share::transfer(zeros, target, head_, 0);
      context.training(path(), training_, target);
      return ModelOutline{{target}};
    } catch (const Error& e) {
      context.problem(path() + (model_.empty() ? ".from" : ".model"), e.what());
      return std::nullopt;
    }
  }

  [[nodiscard]] double cost(RunContext& context) const override {
    return training_cost(context, training_, target(context));
  }

  [[nodiscard]] int least_ranks(RunContext& context) const override {
    return least_training_ranks(training_, target(context));
  }

  StageResult run(RunContext& context) const override {
    const auto& source = context.model(from_);
    const auto& training = training_;
    const auto spec = target(context);
    require_same_characters(context, from_, training.dataset);
    share::TransferResult moved;
    comm::agree(context.comm(), from_,
                [&] { moved = share::transfer(source.state, spec, head_, training.options.seed); });
    log::info(fmt::format("{}: {} tensors from {}, {} new", name(), moved.loaded.size(), from_,
                          moved.replaced.size()));
    return train_model(context, name(), training, spec, *training.objective, context.training_data(training),
                       std::move(moved.state));
  }

 private:
  [[nodiscard]] nn::ModelSpec target(RunContext& context) const {
    if (!model_.empty()) return *context.deck().find_model(model_);
    return with_classes(context.model(from_).members.front().spec,
                        context.deck().find_dataset(training_.dataset)->settings.classes);
  }

  std::string from_;
  std::string model_;
  std::string leaves_model_;  // its own, or the source's
  share::Head head_ = share::Head::kAuto;
  train::Training training_;
};

}  // namespace

std::unique_ptr<Stage> make_transfer(Settings& settings, const Deck& deck) {
  return std::make_unique<TransferStage>(settings, deck);
}

}  // namespace impart::stages
